"""An FTP server of pyftpdlib as a program: `python -m support.ftp_program USER PASSWORD FOLDER [COMMAND …]`.

It serves the folder, and does not know these commands.
"""

from __future__ import annotations

import sys

from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler
from pyftpdlib.servers import FTPServer


def main(user: str, password: str, folder: str, *without: str) -> None:
    authorizer = DummyAuthorizer()
    authorizer.add_user(user, password, folder, perm="elr")
    known = {name: what for name, what in FTPHandler.proto_cmds.items() if name not in without}
    handler = type("Handler", (FTPHandler,), {"authorizer": authorizer, "proto_cmds": known})
    server = FTPServer(("127.0.0.1", 0), handler)
    print(server.address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
