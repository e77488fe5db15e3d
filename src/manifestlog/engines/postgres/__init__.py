"""The engine of many hosts: manifests in a PostgreSQL database, decided by the clients and stored by the server."""
