"""The integration tests of docker-compose.yaml. Other traffic pauses during the tests, so that Envoy counts only theirs.

They compare the filter's counts with the servers' counts: their performance schema, by user.
"""

import collections
import json
import os
import pathlib
import re
import socket
import time
import unittest
import urllib.error
import urllib.parse
import urllib.request

import pymysql

# The servers, and Envoy's ports for them.
THROUGH_ENVOY = {"mariadb": 3307, "mysql": 3308}
BEHIND_HAPROXY = 3309
PATIENCE = 60
# Longer than two ticks of the filter, after which it has exported its counts.
QUIET = 1.5


def setUpModule():
    """Stops the other traffic until this connection ends."""
    global pause
    pause = socket.create_connection(("client", 7000), timeout=PATIENCE)
    assert pause.recv(16) == b"paused\n"
    settled()


def tearDownModule():
    pause.close()


def get(url):
    with urllib.request.urlopen(url, timeout=10) as response:
        return response.read().decode()


def counts():
    """Every counter of the filter: `{(name without prefix, ((label, value), ...)): value}`, labels sorted."""
    found = collections.Counter()
    for line in get("http://envoy:9901/stats/prometheus").splitlines():
        if match := re.fullmatch(r"firstword_(\w+)\{(.*)\} (\d+)", line):
            name, labels, value = match.groups()
            labels = tuple(sorted(re.findall(r'(\w+)="([^"]*)"', labels)))
            # These count time, not traffic.
            if not name.startswith(("heartbeat", "vm_memory")):
                found[name, labels] = int(value)
    return found


def settled():
    """The counters after no change for QUIET."""
    found = counts()
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        time.sleep(QUIET)
        before, found = found, counts()
        if before == found:
            return found
    raise AssertionError(f"the filter's counters do not settle: {found - before}")


class Filter:
    """The filter's counts for a destination since this object was made."""

    def __init__(self, destination):
        self.destination = destination
        self.before = settled()

    def take(self):
        self.after = settled()

    def by(self, name, label):
        """Counts that are not zero, by the value of a label."""
        found = collections.Counter()
        for (metric, labels), value in self.after.items():
            labels_of = dict(labels)
            if metric == name and labels_of["destination"] == self.destination:
                found[labels_of[label]] += value - self.before[metric, labels]
        return {value: count for value, count in found.items() if count}

    def sum(self, name):
        return sum(self.by(name, "destination").values())


class Server:
    """A server's counts for the user of the tests since this object was made."""

    def __init__(self, host):
        self.host = host
        self.before = self.totals()

    def ask(self, statement):
        """Queries the server directly, not through Envoy."""
        with pymysql.connect(host=self.host, user="root", password="firstword") as connection:
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return cursor.fetchall()

    def totals(self):
        found = collections.Counter()
        for event, *sums in self.ask(
            "SELECT EVENT_NAME, COUNT_STAR, SUM_ERRORS, SUM_ROWS_SENT, SUM_ROWS_AFFECTED, SUM_WARNINGS"
            " FROM performance_schema.events_statements_summary_by_user_by_event_name WHERE USER = 'tester'"
        ):
            for column, value in zip(["events", "errors", "rows", "affected", "warnings"], sums):
                found[event, column] = int(value)
        for (connections,) in self.ask("SELECT TOTAL_CONNECTIONS FROM performance_schema.users WHERE USER = 'tester'"):
            found["connections"] = int(connections)
        return found

    def take(self):
        """Reads the counts when the server has counted the end of every connection."""
        deadline = time.monotonic() + PATIENCE
        while True:
            self.counted = self.totals() - self.before
            if self.counted["statement/com/Quit", "events"] == self.counted["connections"]:
                return
            assert time.monotonic() < deadline, self.counted
            time.sleep(0.2)

    def sum(self, column):
        return sum(value for key, value in self.counted.items() if key[1:] == (column,))

    def events(self, kind):
        """Number of events of a kind (`com`, `sql`), by name."""
        prefix = f"statement/{kind}/"
        return {
            event.removeprefix(prefix): value
            for (event, column), value in (entry for entry in self.counted.items() if len(entry[0]) == 2)
            if column == "events" and event.startswith(prefix)
        }


def connect(host, port):
    login = {"user": "tester", "password": "tester", "database": "shop"}
    return pymysql.connect(host=host, port=port, **login, ssl_disabled=True)


def shop(host, port):
    """Runs a session that does not change the table in the end."""
    with connect(host, port) as connection, connection.cursor() as cursor:
        connection.select_db("shop")
        for n in range(7):
            cursor.execute("INSERT INTO orders (number, state) VALUES (%s, 'test')", (f"test-{n}",))
        for _ in range(3):
            try:
                cursor.execute("INSERT INTO orders (number, state) VALUES ('test-0', 'test')")
            except pymysql.IntegrityError:
                pass
        cursor.execute("REPLACE INTO orders (number, state) VALUES ('test-1', 'test')")
        cursor.execute("UPDATE orders SET state = 'late' WHERE number IN ('test-2', 'test-3')")
        connection.commit()
        cursor.execute("SELECT number FROM orders WHERE state IN ('test', 'late')")
        assert len(cursor.fetchall()) == 7
        try:
            cursor.execute("SELEC 1")
        except pymysql.ProgrammingError:
            pass
        cursor.execute("DELETE FROM orders WHERE state IN ('test', 'late')")
        connection.rollback()
        cursor.execute("DELETE FROM orders WHERE state IN ('test', 'late')")
        connection.commit()
        connection.ping(reconnect=False)


class Greeting(unittest.TestCase):
    """A silent client gets the greeting of the server."""

    def greeting(self, host, port):
        with socket.create_connection((host, port), timeout=PATIENCE) as silent:
            packet = silent.recv(1024)
            self.assertGreater(len(packet), 5)
            self.assertEqual(int.from_bytes(packet[:3], "little"), len(packet) - 4)
            self.assertEqual((packet[3], packet[4]), (0, 10), "sequence id and version of the protocol")
            return packet[5 : packet.index(0, 5)].decode()

    def test_is_each_server_s_own(self):
        for server, port in THROUGH_ENVOY.items():
            with self.subTest(server):
                self.assertEqual(self.greeting("envoy", port), self.greeting(server, 3306))

    def test_comes_through_haproxy(self):
        self.assertEqual(self.greeting("haproxy", 3306), self.greeting("mariadb", 3306))


class Counts(unittest.TestCase):
    """The filter's counts equal the server's."""

    def compare(self, destination, server, host, port):
        firstword, server = Filter(destination), Server(server)
        for _ in range(5):
            shop(host, port)
        firstword.take()
        server.take()
        queries = server.events("sql")
        statements = firstword.by("statements_total", "verb")
        sent = {"insert": 50, "replace": 5, "update": 5, "select": 5, "delete": 10, "commit": 10, "rollback": 5}
        for verb, times in sent.items():
            with self.subTest(verb=verb):
                self.assertEqual((statements.get(verb), queries.get(verb)), (times, times))
        commands = {name.lower().replace(" ", "_"): n for name, n in server.events("com").items()}
        self.assertEqual(firstword.by("commands_total", "command"), commands | {"query": sum(queries.values())})
        self.assertEqual(firstword.by("handshakes_total", "result"), {"ok": 5})
        self.assertEqual(server.counted["connections"], 5)
        self.assertEqual(firstword.sum("errors_total"), server.sum("errors"))
        self.assertEqual(firstword.by("errors_total", "errno"), {"1062": 15, "1064": 5})
        self.assertEqual(firstword.sum("rows_total"), server.sum("rows"))
        self.assertEqual(firstword.sum("affected_rows_total"), server.sum("affected"))
        self.assertEqual(firstword.sum("warnings_total"), server.sum("warnings"))
        self.assertEqual(firstword.by("connections_closed_total", "closed_by"), {"client": 5})
        self.assertEqual(firstword.by("opaque_total", "reason"), {})
        return firstword

    def test_mariadb(self):
        self.compare("mariadb", "mariadb", "envoy", 3307)

    def test_mysql(self):
        self.compare("mysql", "mysql", "envoy", 3308)

    def test_mariadb_behind_haproxy(self):
        firstword = self.compare("behind-haproxy", "mariadb", "haproxy", 3306)
        self.assertEqual(firstword.by("proxy_protocol_received_total", "result"), {"stripped": 5})
        self.assertEqual(firstword.by("proxy_protocol_received_total", "format"), {"v2": 5})
        self.assertEqual(firstword.by("proxy_protocol_sent_total", "format"), {"v1": 5})


class ProxyProtocol(unittest.TestCase):
    def seen(self, host, port):
        """The client's address as MariaDB sees it, and the real one."""
        with connect(host, port) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT USER()")
            ((user,),) = cursor.fetchall()
            return user, f"tester@{connection._sock.getsockname()[0]}"

    def test_mariadb_sees_the_client_of_haproxy(self):
        seen, own = self.seen("haproxy", 3306)
        self.assertEqual(seen, own)

    def test_without_headers_it_sees_envoy(self):
        seen, own = self.seen("envoy", 3307)
        self.assertNotEqual(seen, own)
        self.assertRegex(seen, r"^tester@198\.18\.1\.\d+$")

    def test_only_haproxy_is_trusted(self):
        firstword = Filter("behind-haproxy")
        with socket.create_connection(("envoy", BEHIND_HAPROXY), timeout=PATIENCE) as liar:
            liar.sendall(b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 3306\r\n")
            # At most the greeting arrives.
            try:
                while liar.recv(1024):
                    pass
            except ConnectionResetError:
                pass
        firstword.take()
        self.assertEqual(firstword.by("proxy_protocol_received_total", "result"), {"untrusted": 1})
        self.assertEqual(firstword.by("handshakes_total", "result").get("ok"), None)


def prometheus(path, **parameters):
    response = json.loads(get(f"http://prometheus:9090/api/v1/{path}?{urllib.parse.urlencode(parameters)}"))
    assert response["status"] == "success", response
    return response["data"]


class Prometheus(unittest.TestCase):
    maxDiff = None

    def query(self, expression):
        return prometheus("query", query=expression)["result"]

    def eventually(self, look, expected):
        """Waits for a result, because scrapes and evaluations happen every five seconds."""
        deadline = time.monotonic() + PATIENCE
        while (found := look()) != expected and time.monotonic() < deadline:
            time.sleep(1)
        self.assertEqual(found, expected)

    def test_has_the_series_with_their_labels(self):
        own = {"__name__": "firstword_commands_total", "instance": "envoy:9901", "job": "envoy"}
        expected = sorted(
            (sorted((own | dict(labels)).items()), str(value))
            for (name, labels), value in settled().items()
            if name == "commands_total"
        )
        destinations = {dict(labels)["destination"] for labels, _ in expected}
        self.assertEqual(destinations, {"mariadb", "mysql", "behind-haproxy"})
        for labels, _ in expected:
            self.assertEqual(
                [key for key, _ in labels], ["__name__", "command", "destination", "direction", "instance", "job"])

        def found():
            series = self.query("firstword_commands_total")
            return sorted((sorted(sample["metric"].items()), sample["value"][1]) for sample in series)

        self.eventually(found, expected)

    def test_has_loaded_rules_and_alerts(self):
        def states():
            groups = prometheus("rules")["groups"]
            return {(group["name"], rule["type"], rule["health"]) for group in groups for rule in group["rules"]}

        self.eventually(states, {
            ("firstword", "recording", "ok"),
            ("firstword-pages", "alerting", "ok"),
            ("firstword-tickets", "alerting", "ok"),
        })

    def test_has_the_recorded_series(self):
        for destination in ["mariadb", "mysql", "behind-haproxy"]:
            name = "destination_command:firstword_command_duration_seconds:p95_5m"
            expression = f'count({name}{{command="query", destination="{destination}"}})'
            with self.subTest(destination):
                self.eventually(lambda: [sample["value"][1] for sample in self.query(expression)], ["1"])

    def test_has_no_firing_page(self):
        self.assertEqual(self.query('ALERTS{severity="page", alertstate="firing"}'), [])


class Dashboard(unittest.TestCase):
    """The panels have data for the expressions that Grafana sends."""

    # Titles of panels about faults that do not happen here.
    FAULTS = {
        "Clients refused in the handshake", "Errors instead of a greeting; errors on the server's own accord",
        "Who speaks first",
    }

    def panels(self):
        """Yields the title and the result of each expression."""
        dashboard = json.loads(pathlib.Path("/dashboards/firstword.json").read_text())
        for panel in dashboard["panels"]:
            for target in panel.get("targets", []):
                expression = target["expr"].replace("$destination", ".*").replace("$__rate_interval", "5m")
                yield panel["title"], prometheus("query", query=expression)["result"]

    def test_has_data_in_every_panel_except_faults(self):
        deadline = time.monotonic() + PATIENCE
        while (empty := {title for title, series in self.panels() if not series}) - self.FAULTS:
            self.assertLess(time.monotonic(), deadline, empty)
            time.sleep(1)

    def test_shows_traffic(self):
        shown = collections.defaultdict(float)
        for title, series in self.panels():
            shown[title] += sum(float(sample["value"][1]) for sample in series)
        busy = ["Commands", "Statements", "Bytes", "Rows", "Opened", "Handshakes", "Headers received", "Headers sent"]
        for title in busy:
            with self.subTest(title):
                self.assertGreater(shown[title], 0)


HAS_GRAFANA = "grafana" in os.environ["COMPOSE_PROFILES"].split(",")


@unittest.skipUnless(HAS_GRAFANA, "this set has no Grafana: the profile grafana is off")
class Grafana(unittest.TestCase):
    def test_has_the_dashboard(self):
        found = json.loads(get("http://grafana:3000/api/dashboards/uid/firstword"))
        self.assertEqual(found["dashboard"]["title"], "Firstword")

    def test_queries_prometheus(self):
        request = urllib.request.Request(
            "http://grafana:3000/api/ds/query",
            headers={"content-type": "application/json"},
            data=json.dumps({
                "from": "now-5m",
                "to": "now",
                "queries": [{
                    "refId": "A",
                    "datasource": {"uid": "prometheus"},
                    "expr": "count(count by (destination) (firstword_commands_total))",
                    "instant": True,
                }],
            }).encode())
        frames = json.loads(get(request))["results"]["A"]["frames"]
        self.assertEqual(frames[0]["data"]["values"][-1], [3])
