"""Calls each method of the gRPC server at the given address. Prints a summary. Fails if a response is not the request."""

import sys

import grpc

SIZES = (0, 1, 1000, 4 << 20)
CALLS = 1000

options = [("grpc.max_receive_message_length", -1), ("grpc.enable_http_proxy", 0)]
with grpc.insecure_channel(sys.argv[1], options=options) as channel:
    message = channel.unary_unary("/echo/Message")
    for size in SIZES:
        sent = bytes(range(256)) * (size // 256) + bytes(size % 256)
        assert message(sent, timeout=60) == sent, size

    calls = [message.future(b"call %d" % call, timeout=60) for call in range(CALLS)]
    assert [call.result() for call in calls] == [b"call %d" % call for call in range(CALLS)]

    sent = [b"x" * (call * 100) for call in range(200)]
    assert list(channel.stream_stream("/echo/Stream")(iter(sent), timeout=60)) == sent

    try:
        channel.unary_unary("/echo/Fail")(b"", timeout=60)
        raise AssertionError("an error is expected")
    except grpc.RpcError as error:
        print(error.code(), error.details(), [item for item in error.trailing_metadata() if item[0] == "cause"])
print(len(SIZES), "messages,", len(calls), "calls at once,", len(sent), "in a stream")
