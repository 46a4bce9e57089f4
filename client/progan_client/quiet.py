"""Keep the log lines of gRPC's C++ library off standard error, unless somebody asked for them.

Import this module before grpc.
"""

import os

if not {"GRPC_VERBOSITY", "GRPC_TRACE"} & os.environ.keys():
    os.environ["GRPC_VERBOSITY"] = "NONE"
    import grpc  # noqa: F401  # reads the variable

    del os.environ["GRPC_VERBOSITY"]  # programs that this one starts do not inherit it
