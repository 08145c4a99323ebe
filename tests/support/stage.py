"""An agent's page with metrics that were made up: of many containers, or with text that wants to be more than text."""
import http.client, http.server, math, random, threading

HOSTILE = [
    "<img src=x onerror=alert(1)>", "<script>alert(2)</script>", '"><svg onload=alert(3)>', "javascript:alert(4)", "\\\"'`\\n${alert(5)}",
    "</textarea></title></style><b onmouseover=alert(6)>x", "__proto__", "constructor", "line\nbreak\\", "{{telemetry}}", "\u202eevil\u0007",
]


def quote(value):
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


class Metrics:
    """Families in order, with their series."""

    def __init__(self):
        self.families = {}

    def add(self, name, labels, value, kind=None, part=""):
        kind = kind or ("counter" if name.endswith("_total") else "gauge")
        labels = {"machine_id": "5d41402abc4b2a76b9719d911017c592", "system_uuid": "7d793037-a076-4f1a-9d3c-1a2b3c4d5e6f", **labels}
        inside = ",".join(f'{label}="{quote(text)}"' for label, text in labels.items())
        lines = self.families.setdefault(name, [f"# HELP {name} What it is.", f"# TYPE {name} {kind}"])
        lines.append(f"{name}{part}{{{inside}}} {value}")

    def text(self):
        return "\n".join(line for lines in self.families.values() for line in lines) + "\n"


def node(m, turn):
    m.add("node_info", {"hostname": "stage", "kernel_version": "6.12.0"}, 1)
    m.add("node_uptime_seconds", {}, 400000 + 5 * turn)
    m.add("node_resources_cpu_logical_cores", {}, 64)
    for mode, share in (("user", 12), ("system", 5), ("iowait", 2), ("idle", 45)):
        m.add("node_resources_cpu_usage_seconds_total", {"mode": mode}, 1e5 + turn * share * 5)
    for word, gib in (("total", 256), ("free", 20), ("available", 150), ("cached", 120)):
        m.add(f"node_resources_memory_{word}_bytes", {}, gib << 30)
    for collector in ("containers", "tcp", "logs"):
        m.add("nodeprobe_collector_info", {"collector": collector, "reason": "ok"}, 1)
        m.add("nodeprobe_collector_up", {"collector": collector}, 1)


def many(count):
    """Twenty series and more for each of `count` containers."""
    dice = random.Random(7)
    sizes = [dice.paretovariate(0.9) for _ in range(count)]

    def render(turn):
        m = Metrics()
        node(m, turn)
        for n, size in enumerate(sizes):
            id = f"/k8s/team-{n % 23}/service-{n % 97}-7d9c5bd8f-{n:05x}/app"
            c = {"container_id": id, "app_id": f"/k8s/team-{n % 23}/service-{n % 97}"}
            cpu = min(size * 0.02, 8) * (1 + 0.3 * math.sin(turn + n))
            m.add("container_info", {**c, "image": f"registry.example.org/team-{n % 23}/service-{n % 97}:1.{n % 9}"}, 1)
            m.add("container_resources_cpu_usage_seconds_total", c, f"{1000 + cpu * 5 * turn:.3f}")
            m.add("container_resources_cpu_limit_cores", c, 2)
            m.add("container_resources_cpu_throttled_seconds_total", c, f"{turn * max(0, cpu - 1):.3f}")
            memory = (50 << 20) + int(size * (20 << 20)) % (1900 << 20)
            m.add("container_resources_memory_limit_bytes", c, 2 << 30)
            m.add("container_resources_memory_working_set_bytes", c, memory)
            m.add("container_resources_memory_rss_bytes", c, memory - (9 << 20))
            m.add("container_resources_memory_cache_bytes", c, 9 << 20)
            for what in ("cpu", "memory", "io"):
                for kind in ("some", "full"):
                    m.add(f"container_resources_{what}_pressure_waiting_seconds_total", {**c, "kind": kind}, f"{turn * cpu / 9:.4f}")
            for way in ("received", "transmitted"):
                m.add(f"container_net_{way}_bytes_total", {**c, "interface": "eth0"}, int(turn * size * 90000))
            m.add("container_resources_cpu_delay_seconds_total", c, f"{turn * cpu / 50:.4f}")
            m.add("container_resources_disk_delay_seconds_total", c, f"{turn * cpu / 90:.4f}")
            m.add("container_restarts_total", c, n % 50 == 3)
            m.add("container_processes", c, 3 + n % 7)
            m.add("container_net_tcp_listen_info", {**c, "listen_addr": f"10.1.{n // 200}.{n % 200 + 1}:8080", "proxy": ""}, 1)
            to = (n * 7 + 13) % count
            d = {**c, "destination": f"10.1.{to // 200}.{to % 200 + 1}:8080"}
            a = {**d, "actual_destination": d["destination"]}
            m.add("container_net_tcp_successful_connects_total", a, int(turn * size * 5))
            m.add("container_net_tcp_connection_time_seconds_total", a, f"{turn * size * 0.004:.5f}")
            m.add("container_log_messages_total", {**c, "source": "stdout/stderr", "level": ("info", "warning", "error")[n % 3],
                  "pattern_hash": f"{n:032x}", "sample": f"request {n} took too long for upstream service-{n % 97}"}, turn * (n % 40))
        return m.text()

    return render


def hostile(turn):
    """Text in every label that the page shows."""
    m = Metrics()
    node(m, turn)
    for n, text in enumerate(HOSTILE):
        c = {"container_id": f"/docker/{text}", "app_id": text}
        m.add("container_info", {**c, "image": text}, 1)
        m.add("container_application_type", {**c, "application_type": text}, 1)
        m.add("container_resources_cpu_usage_seconds_total", c, turn * n)
        m.add("container_resources_memory_working_set_bytes", c, "NaN" if n % 2 else "+Inf")
        d = {**c, "destination": text, "actual_destination": text}
        m.add("container_net_tcp_successful_connects_total", d, turn * (n + 1) * 10)
        m.add("container_net_tcp_failed_connects_total", {**c, "destination": text}, turn * n)
        m.add("container_log_messages_total", {**c, "source": text, "level": text, "pattern_hash": text, "sample": text}, turn * n)
        m.add("ebpf_exporter_hostile_seconds", {"what": text, "le": "0.1"}, turn, "histogram", "_bucket")
        m.add("ebpf_exporter_hostile_seconds", {"what": text, "le": "+Inf"}, turn * 3, "histogram", "_bucket")
        m.add("ebpf_exporter_hostile_seconds", {"what": text}, turn * 3, "histogram", "_count")
        m.add("ebpf_exporter_hostile_total", {"what": text}, turn * n)
        m.add("nodeprobe_collector_info", {"collector": text, "reason": text}, 1)
        m.add("node_resources_disk_read_bytes_total", {"device": text}, turn)
        m.add("node_net_received_bytes_total", {"interface": text}, turn)
    return m.text()


class Stage:
    """Serves what the agent serves at `/`, headers included, and at /metrics what `render` makes of the number of the turn."""

    def __init__(self, agent, render):
        stage = self
        stage.turn = 0
        connection = http.client.HTTPConnection(agent)
        connection.request("GET", "/")
        answer = connection.getresponse()
        page, headers = answer.read(), answer.getheaders()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                if self.path == "/metrics":
                    stage.turn += 1
                    body = render(stage.turn).encode()
                    self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
                    self.send_header("Content-Length", str(len(body)))
                else:
                    body = page
                    for name, value in headers:
                        if name.lower() not in ("date", "server", "connection"):
                            self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{server.server_address[1]}/"
