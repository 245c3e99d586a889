"""Output of values, and the steps that the DB-API supports, for both Python programs."""

import hashlib
import sys


def show(value):
    if value is None:
        return "NULL"
    if isinstance(value, (bytes, bytearray)):
        return value.hex()
    return str(value)


def rows(result):
    return " / ".join(" ".join(map(show, row)) for row in result) or "-"


def say(step, *values):
    print(step, *values, flush=True)


def error(cursor, step, statement, error_class):
    try:
        cursor.execute(statement)
    except error_class as e:
        say(step, e.args[0])


def run(connection, error_class, infile):
    cursor = connection.cursor()

    def select(statement):
        cursor.execute(statement)
        return cursor.fetchall()

    say("text", rows(select("SELECT * FROM kinds")))
    error(cursor, "missing-table", "SELECT * FROM nosuch", error_class)
    error(cursor, "syntax-error", "SELECT FROM", error_class)

    names = [(i, None if i % 2 == 0 else f"name {i}") for i in range(1, 101)]
    cursor.executemany("INSERT INTO batch VALUES (%s, %s)", names)
    connection.commit()
    say("batch", rows(select("SELECT COUNT(*), SUM(id), COUNT(name) FROM batch")))
    for step, end in [("rolled-back", connection.rollback), ("committed", connection.commit)]:
        cursor.execute("INSERT INTO batch VALUES (101, 'last')")
        end()
        say(step, rows(select("SELECT COUNT(*) FROM batch")))

    field = select("SELECT REPEAT('0123456789abcdef', 1048577)")[0][0]
    say("field", len(field), hashlib.md5(field.encode()).hexdigest())
    numbers = select("SELECT n FROM numbers")
    say("rows", len(numbers), sum(n for (n,) in numbers))

    cursor.execute(f"LOAD DATA LOCAL INFILE '{infile}' INTO TABLE loaded")
    connection.commit()
    say("infile", rows(select("SELECT COUNT(*), SUM(id) FROM loaded")))
    cursor.close()


def arguments():
    host, port, user, password, database, infile, transport = sys.argv[-7:]
    login = dict(host=host, port=int(port), user=user, password=password, database=database)
    return login, infile, transport
