"""Scenario with PyMySQL, which supports only the text protocol."""

import importlib.metadata
import ssl

import pymysql

import scenario
from scenario import rows, say

login, infile, transport = scenario.arguments()
if transport == "tls":
    login["ssl"] = ssl._create_unverified_context()
elif transport == "plain":
    login["ssl_disabled"] = True
elif transport != "default":
    login["ssl"] = ssl.create_default_context(cafile=transport)
say("driver", "PyMySQL", importlib.metadata.version("PyMySQL"))
connection = pymysql.connect(**login, local_infile=True, max_allowed_packet=64 << 20)
scenario.run(connection, pymysql.err.MySQLError, infile)

cursor = connection.cursor()
cursor.callproc("two_results", (5, 0))
results = [rows(cursor.fetchall())]
while cursor.nextset():
    if cursor.description:
        results.append(rows(cursor.fetchall()))
say("call", " / ".join(results))
# PyMySQL keeps OUT parameters in variables of the session.
cursor.execute("SELECT @_two_results_1")
say("out", rows(cursor.fetchall()))
connection.ping(reconnect=False)
say("ping", "ok")
connection.close()
