"""A gRPC server that echoes messages and streams, or responds with an error. Prints its port."""

from concurrent import futures

import grpc


def fail(_, context):
    context.set_trailing_metadata((("cause", "asked-for"),))
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "as asked for")


METHODS = {
    "/echo/Message": grpc.unary_unary_rpc_method_handler(lambda message, _: message),
    "/echo/Stream": grpc.stream_stream_rpc_method_handler(lambda messages, _: messages),
    "/echo/Fail": grpc.unary_unary_rpc_method_handler(fail),
}


class Echo(grpc.GenericRpcHandler):
    def service(self, details):
        return METHODS.get(details.method)


server = grpc.server(futures.ThreadPoolExecutor(16), options=[("grpc.max_receive_message_length", -1)])
server.add_generic_rpc_handlers((Echo(),))
print(server.add_insecure_port("127.0.0.1:0"), flush=True)
server.start()
server.wait_for_termination()
