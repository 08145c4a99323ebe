"""Runs the Python code it reads, up to each NUL, and answers with one line: `=` and the variable `out`, or `!` and why not.

What the code may use besides: the functions here.
"""
import ctypes, errno, fcntl, os, random, select, signal, socket, struct, sys, tempfile, termios, threading, time, traceback

LIBC = ctypes.CDLL(None, use_errno=True)
# Closes with RST, as all was said, so that no port waits.
RESET = struct.pack("ii", 1, 0)


def family(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def connect(address, port, kind=None):
    client = socket.socket(kind or family(address))
    client.connect((address, port))
    return client


def connecting(address, port):
    """A connect that is under way or over; its error is SO_ERROR's."""
    client = socket.socket(family(address))
    client.setblocking(False)
    assert client.connect_ex((address, port)) in (0, errno.EINPROGRESS)
    return client


def outcome(client, patience=20):
    """Waits for the end of a non-blocking connect."""
    poll = select.poll()
    poll.register(client, select.POLLOUT)
    assert poll.poll(patience * 1000), "no end of the connect"
    client.setblocking(True)
    return client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)


def reset(client):
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    client.close()


def disconnect(client):
    """connect(2) to nobody: the socket is as new."""
    nobody = struct.pack("H14x", socket.AF_UNSPEC)
    assert LIBC.connect(client.fileno(), nobody, len(nobody)) == 0, os.strerror(ctypes.get_errno())


def listen(address, port, v6only=None, backlog=4096, share=False):
    server = socket.socket(family(address))
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if share:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if v6only is not None:
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6only)
    server.bind((address, port))
    server.listen(backlog)
    return server


def serve(server, handle):
    """Handles each connection in a thread of its own; what `handle` returns is collected in the list returned."""
    done = []

    def one(client):
        try:
            done.append(handle(client))
        except OSError as error:
            done.append(error)

    def accept():
        while True:
            threading.Thread(target=one, args=(server.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return done


def hold(server):
    """Accepts and keeps."""
    held = []

    def accept():
        while True:
            held.append(server.accept()[0])

    threading.Thread(target=accept, daemon=True).start()
    return held


def exactly(client, count):
    got = bytearray()
    while len(got) < count:
        part = client.recv(min(count - len(got), 1 << 16))
        assert part, f"the end after {len(got)} of {count} bytes"
        got += part
    return bytes(got)


def to_the_end(client):
    count = 0
    while part := client.recv(1 << 16):
        count += len(part)
    return count


def settled(client, patience=60):
    """Waits until the other side has all that was sent."""
    end = time.monotonic() + patience
    while struct.unpack("i", fcntl.ioctl(client, termios.TIOCOUTQ, b"\0" * 4))[0]:
        assert time.monotonic() < end, "not acknowledged"
        time.sleep(0.001)


def info(client):
    """The numbers of struct tcp_info that tests compare with."""
    data = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    at = lambda form, offset: struct.unpack_from(form, data, offset)[0]
    return {
        "rtt_us": at("I", 68),
        "total_retrans": at("I", 100),
        "bytes_acked": at("Q", 120),
        "bytes_received": at("Q", 128),
        "min_rtt_us": at("I", 148),
        "bytes_sent": at("Q", 200),
        "bytes_retrans": at("Q", 208),
    }


def all_threads(count, work):
    """Runs work(0), work(1), ... at once; their results, or the first exception."""
    results, failures = [None] * count, []

    def one(number):
        try:
            results[number] = work(number)
        except BaseException:
            failures.append(traceback.format_exc())

    threads = [threading.Thread(target=one, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[0]
    return results


def main():
    orders, scope = sys.stdin.buffer, globals()
    rest = b""
    while data := os.read(orders.fileno(), 1 << 16):
        *complete, rest = (rest + data).split(b"\0")
        for code in complete:
            scope["out"] = ""
            try:
                exec(compile(code.decode(), "order", "exec"), scope)
                out = scope["out"]
                text = "=" + (" ".join(map(str, out)) if isinstance(out, (list, tuple)) else str(out))
            except BaseException:
                text = "!" + traceback.format_exc()
            os.write(1, text.strip().replace("\n", "\\n").encode() + b"\n")


main()
os._exit(0)
