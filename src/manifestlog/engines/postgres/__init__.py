"""The engine of many hosts: manifests in a PostgreSQL database. Clients decide, the server stores."""
