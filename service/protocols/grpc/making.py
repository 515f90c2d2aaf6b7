"""Makes `open_inference.binpb`, the descriptors that the program reads, from the `.proto`.

    python -m service.protocols.grpc.making

It needs grpcio-tools (the extra `dev`). Descriptors instead of generated Python: they belong to no
version of protobuf, and a program that has another client's classes of the same names loads both.
"""

from pathlib import Path

HERE = Path(__file__).parent
SOURCE, TARGET = HERE / "open_inference.proto", HERE / "open_inference.binpb"


def compile_descriptors(target: Path) -> None:
    """Write the descriptors of `SOURCE` to `target`. Raises RuntimeError where protoc refuses."""
    from grpc_tools import protoc

    arguments = ["protoc", f"-I{HERE}", f"--descriptor_set_out={target}", str(SOURCE)]
    if protoc.main(arguments):
        raise RuntimeError(f"protoc refuses {SOURCE}")


if __name__ == "__main__":
    compile_descriptors(TARGET)
    print(TARGET)
