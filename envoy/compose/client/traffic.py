"""Sends orders through Envoy until it is stopped: to MariaDB, to MySQL, and to MariaDB behind HAProxy.

Traffic pauses while a client is connected to PORT. The client gets a line when the last session has ended.
"""

import pathlib
import random
import signal
import socket
import sys
import threading
import time
import uuid

import pymysql

ROUTES = [("envoy", 3307), ("envoy", 3308), ("haproxy", 3306)]
PORT = 7000
DUPLICATE_KEY = 1062

# Touched at the end of every session. The health check reads its age.
LAST_SESSION = pathlib.Path("/tmp/session")


def session(host, port):
    """Runs a session with ten orders of a web shop."""
    login = {"user": "shop", "password": "shop", "database": "shop"}
    # In a session with TLS the filter sees only the greeting.
    connection = pymysql.connect(host=host, port=port, **login, ssl_disabled=True)
    with connection, connection.cursor() as cursor:
        for _ in range(10):
            number = str(uuid.uuid4())
            cursor.execute("INSERT INTO orders (number, state) VALUES (%s, 'new')", (number,))
            connection.commit()
            cursor.execute("SELECT id, state FROM orders WHERE number = %s", (number,))
            (order, _) = cursor.fetchone()
            cursor.execute("UPDATE orders SET state = 'paid' WHERE id = %s", (order,))
            connection.commit()
            time.sleep(random.uniform(0.01, 0.1))
        # Some orders arrive twice.
        if random.random() < 0.2:
            try:
                cursor.execute("INSERT INTO orders (number, state) VALUES (%s, 'new')", (number,))
            except pymysql.IntegrityError as error:
                if error.args[0] != DUPLICATE_KEY:
                    raise
        cursor.execute("SELECT state, COUNT(*) FROM orders GROUP BY state")
        cursor.fetchall()
        cursor.execute("DELETE FROM orders ORDER BY id LIMIT 10")
        connection.commit()


def traffic(route, running):
    """Runs session after session. Holds `running` during each."""
    while True:
        with running:
            try:
                session(*route)
                LAST_SESSION.touch()
            except (pymysql.MySQLError, OSError) as error:
                print("%s:%d: %s" % (*route, error), file=sys.stderr, flush=True)
        time.sleep(random.uniform(0.1, 0.5))


def main():
    # The first process of a container ignores signals without a handler.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    locks = []
    for route in ROUTES:
        running = threading.Lock()
        locks.append(running)
        threading.Thread(target=traffic, args=(route, running), daemon=True).start()
    server = socket.create_server(("", PORT))
    while True:
        client, _ = server.accept()
        with client:
            for running in locks:
                running.acquire()
            try:
                client.sendall(b"paused\n")
                while client.recv(1024):
                    pass
            except OSError as error:
                print(f"pause: {error}", file=sys.stderr, flush=True)
            for running in locks:
                running.release()


main()
