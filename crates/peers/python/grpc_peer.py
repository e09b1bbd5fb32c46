"""A gRPC server and the calls of a client, over bytes: `serve` prints its port, `call ADDRESS` prints a line a check."""

import sys
import threading
import time
from concurrent import futures

import grpc


def unary(request, context):
    metadata = dict(context.invocation_metadata())
    context.send_initial_metadata((("x-initial", metadata.get("x-sent", "none")),))
    context.set_trailing_metadata((("x-trailing", "yes"), ("x-binary-bin", b"\x00\xff")))
    return b"echo " + request


def fail(request, context):
    context.set_trailing_metadata((("x-why", "asked"),))
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not now: ü %")


def slow(request, context):
    context.add_callback(SEEN_END.set)
    time.sleep(5) if request == b"block" else None
    return b"late"


def count(request, context):
    for number in range(int(request)):
        yield b"%d" % number


def collect(requests, context):
    return b",".join(requests)


def talk(requests, context):
    for request in requests:
        yield b"re " + request


SEEN_END = threading.Event()


def ended(request, context):
    return b"yes" if SEEN_END.wait(5) else b"no"


class Handler(grpc.GenericRpcHandler):
    def service(self, details):
        return {
            "/peer/unary": grpc.unary_unary_rpc_method_handler(unary),
            "/peer/fail": grpc.unary_unary_rpc_method_handler(fail),
            "/peer/slow": grpc.unary_unary_rpc_method_handler(slow),
            "/peer/ended": grpc.unary_unary_rpc_method_handler(ended),
            "/peer/count": grpc.unary_stream_rpc_method_handler(count),
            "/peer/collect": grpc.stream_unary_rpc_method_handler(collect),
            "/peer/talk": grpc.stream_stream_rpc_method_handler(talk),
        }.get(details.method)


def serve():
    server = grpc.server(futures.ThreadPoolExecutor(16))
    server.add_generic_rpc_handlers((Handler(),))
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    sys.stdin.read()
    server.stop(0)


def check(name, found, expected):
    if found != expected:
        print(f"{name}: found {found!r}, expected {expected!r}")
        sys.exit(1)
    print("ok", name)


def code_of(call):
    try:
        call()
    except grpc.RpcError as error:
        return error
    return None


def call(address):
    channel = grpc.insecure_channel(address)
    one = channel.unary_unary("/peer/unary")
    answer, info = one.with_call(b"x", metadata=(("x-sent", "m"),), timeout=10)
    trailing = dict(info.trailing_metadata())
    check("unary", answer, b"echo x")
    check("initial metadata", dict(info.initial_metadata()).get("x-initial"), "m")
    check("trailing metadata", (trailing.get("x-trailing"), trailing.get("x-binary-bin")), ("yes", b"\x00\xff"))
    big = b"b" * 3_000_000
    check("large message", one(big, timeout=20), b"echo " + big)
    check("many", [one(b"%d" % n, timeout=10) for n in range(50)], [b"echo %d" % n for n in range(50)])
    calls = [one.future(b"%d" % n, timeout=10) for n in range(50)]
    check("many at once", [call.result() for call in calls], [b"echo %d" % n for n in range(50)])
    error = code_of(lambda: channel.unary_unary("/peer/fail")(b"", timeout=10))
    check("error", (error.code(), error.details()), (grpc.StatusCode.FAILED_PRECONDITION, "not now: ü %"))
    check("error's metadata", dict(error.trailing_metadata()).get("x-why"), "asked")
    error = code_of(lambda: channel.unary_unary("/peer/none")(b"", timeout=10))
    check("unknown method", error.code(), grpc.StatusCode.UNIMPLEMENTED)
    begun = time.monotonic()
    error = code_of(lambda: channel.unary_unary("/peer/slow")(b"block", timeout=0.3))
    check("deadline", error.code(), grpc.StatusCode.DEADLINE_EXCEEDED)
    check("deadline in time", time.monotonic() - begun < 3, True)
    check("the server hears of the end", channel.unary_unary("/peer/ended")(b"", timeout=10), b"yes")
    pending = channel.unary_unary("/peer/slow").future(b"block", timeout=10)
    pending.cancel()
    check("cancellation", pending.code(), grpc.StatusCode.CANCELLED)
    found = list(channel.unary_stream("/peer/count")(b"200", timeout=10))
    check("server streaming", found, [b"%d" % n for n in range(200)])
    found = channel.stream_unary("/peer/collect")(iter([b"a", b"b", b"c"]), timeout=10)
    check("client streaming", found, b"a,b,c")
    # Each message is sent only when the answer to the one before is there.
    turn, found = threading.Semaphore(1), []

    def messages():
        for number in range(20):
            turn.acquire()
            yield b"%d" % number

    for answer in channel.stream_stream("/peer/talk")(messages(), timeout=10):
        found.append(answer)
        turn.release()
    check("both ways, in turns", found, [b"re %d" % n for n in range(20)])


if sys.argv[1] == "serve":
    serve()
else:
    call(sys.argv[2])
