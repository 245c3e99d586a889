"""Scenario with MySQL Connector/Python, in Python (`pure`) or with MySQL's client library in C (`c`)."""

import sys

import mysql.connector

import scenario
from scenario import rows, say

pure = sys.argv[1] == "pure"
login, infile, transport = scenario.arguments()
if transport != "default":
    login["ssl_disabled"] = transport == "plain"
if transport.startswith("/"):
    login |= {"ssl_ca": transport, "ssl_verify_cert": True, "ssl_verify_identity": True}
say("driver", "mysql-connector-python", mysql.connector.__version__)
connection = mysql.connector.connect(
    **login, use_pure=pure, allow_local_infile=True, consume_results=True)
scenario.run(connection, mysql.connector.Error, infile)

cursor = connection.cursor(prepared=True)
statement = "SELECT id, name, price FROM items WHERE id >= ? AND price < ? ORDER BY id"
for step, least in [("prepared", 1), ("prepared-empty", 5)]:
    cursor.execute(statement, (least, 100))
    say(step, rows(cursor.fetchall()))
cursor.execute("SELECT SHA2(?, 256)", ("x" * 17_000_000,))
say("parameter", rows(cursor.fetchall()))
cursor.close()

cursor = connection.cursor()
out = cursor.callproc("two_results", (5, 0))[1]
say("call", " / ".join(rows(result.fetchall()) for result in cursor.stored_results()))
say("out", out)
for step, renew in [
    ("reset", lambda: connection.cmd_reset_connection()),
    ("change-user", lambda: connection.cmd_change_user(login["user"], login["password"], login["database"])),
]:
    cursor.execute("SET @kept = 1")
    renew()
    cursor.execute("SELECT @kept")
    say(step, rows(cursor.fetchall()))
connection.ping()
say("ping", "ok")
connection.close()
