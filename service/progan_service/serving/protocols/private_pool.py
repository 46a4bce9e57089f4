"""Messages in a descriptor pool of their own.

Other packages bring messages of the same names. In the pool that all generated code shares, they would clash.
"""

from importlib.resources import files

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool


def private_pool(package: str, name: str) -> DescriptorPool:
    """Return a pool with what `make protos` has compiled into the file of this name in a package."""
    pool = DescriptorPool()
    for file in FileDescriptorSet.FromString(files(package).joinpath(name).read_bytes()).file:
        pool.Add(file)
    return pool
