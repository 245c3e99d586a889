"""An HTTP/1.1 server. It responds to `/bytes/N` with N bytes, and to a POST with the same body. Prints its port."""

import http.server


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        size = int(self.path.rsplit("/", 1)[1])
        self.respond((b"0123456789abcdef" * (size // 16 + 1))[:size])

    def do_POST(self):
        self.respond(self.rfile.read(int(self.headers["content-length"])))

    def respond(self, body):
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 512


server = Server(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
