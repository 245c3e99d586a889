"""Connects several times, runs a few statements and ignores all errors, because the server is hostile."""

import sys

driver = sys.argv[1]
host, port, user, password, database, infile, times = sys.argv[2:]
login = dict(host=host, port=int(port), user=user, password=password, database=database)


def attempt(call):
    try:
        return call()
    except Exception:
        return None


def read(cursor, *statement):
    cursor.execute(*statement)
    more = True
    while more:
        attempt(cursor.fetchall)
        more = cursor.nextset()


def with_pymysql():
    import pymysql

    connection = pymysql.connect(**login, ssl_disabled=True, local_infile=True, read_timeout=5)
    for statement in ["SELECT 1", "DO 0", "SELECT 1", "SELECT 2"]:
        attempt(lambda: read(connection.cursor(), statement))
    attempt(lambda: connection.ping(reconnect=False))
    attempt(lambda: read(connection.cursor(), "SELECT 1"))
    attempt(connection.close)


def with_connector(pure):
    import mysql.connector

    connection = mysql.connector.connect(
        **login, use_pure=pure, ssl_disabled=True, allow_local_infile=True, consume_results=True,
        connection_timeout=5)
    for statement in ["SELECT 1", "DO 0", "SELECT 1"]:
        attempt(lambda: read(connection.cursor(), statement))
    attempt(lambda: read(connection.cursor(prepared=True), "SELECT ?", (1,)))
    attempt(connection.ping)
    attempt(lambda: read(connection.cursor(), "SELECT 1"))
    attempt(connection.close)


for _ in range(int(times)):
    if driver == "pymysql":
        attempt(with_pymysql)
    else:
        attempt(lambda: with_connector(driver == "pure"))
