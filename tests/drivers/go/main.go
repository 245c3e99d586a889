// Scenario with go-sql-driver/mysql through database/sql: a pool of connections, and prepared statements by default.
package main

import (
	"context"
	"crypto/md5"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"errors"
	"fmt"
	"log"
	"os"
	"runtime/debug"
	"strings"

	"github.com/go-sql-driver/mysql"
)

func main() {
	if len(os.Args) != 8 {
		log.Fatal("usage: go-sql-driver HOST PORT USER PASSWORD DATABASE FILE plain|tls|default|AUTHORITY")
	}
	config := mysql.NewConfig()
	config.Net, config.Addr = "tcp", os.Args[1]+":"+os.Args[2]
	config.User, config.Passwd, config.DBName = os.Args[3], os.Args[4], os.Args[5]
	switch transport := os.Args[7]; transport {
	case "plain", "default":
	case "tls":
		config.TLSConfig = "skip-verify"
	default:
		authority, err := os.ReadFile(transport)
		check(err)
		config.TLS = &tls.Config{RootCAs: x509.NewCertPool(), ServerName: os.Args[1]}
		config.TLS.RootCAs.AppendCertsFromPEM(authority)
	}
	say("driver", "go-sql-driver/mysql", version())
	connector, err := mysql.NewConnector(config)
	check(err)
	pool := sql.OpenDB(connector)
	// One connection, which database/sql resets before each reuse.
	pool.SetMaxOpenConns(1)
	run(pool, os.Args[6])
	check(pool.Close())
}

func run(db *sql.DB, file string) {
	say("text", rows(db.Query("SELECT * FROM kinds")))

	prepared, err := db.Prepare("SELECT id, name, price FROM items WHERE id >= ? AND price < ? ORDER BY id")
	check(err)
	say("prepared", rows(prepared.Query(1, 100)))
	say("prepared-empty", rows(prepared.Query(5, 100)))
	check(prepared.Close())

	failure(db, "missing-table", "SELECT * FROM nosuch")
	failure(db, "syntax-error", "SELECT FROM")

	insert, err := db.Prepare("INSERT INTO batch VALUES (?, ?)")
	check(err)
	for id := 1; id <= 100; id++ {
		name := sql.NullString{String: fmt.Sprint("name ", id), Valid: id%2 == 1}
		_, err = insert.Exec(id, name)
		check(err)
	}
	check(insert.Close())
	say("batch", rows(db.Query("SELECT COUNT(*), SUM(id), COUNT(name) FROM batch")))
	for _, step := range []string{"rolled-back", "committed"} {
		transaction, err := db.BeginTx(context.Background(), nil)
		check(err)
		_, err = transaction.Exec("INSERT INTO batch VALUES (101, 'last')")
		check(err)
		if step == "committed" {
			check(transaction.Commit())
		} else {
			check(transaction.Rollback())
		}
		say(step, rows(db.Query("SELECT COUNT(*) FROM batch")))
	}

	say("call", rows(db.Query("CALL two_results(5, @out)")))
	say("out", rows(db.Query("SELECT @out")))

	var field []byte
	check(db.QueryRow("SELECT REPEAT('0123456789abcdef', 1048577)").Scan(&field))
	say("field", fmt.Sprintf("%d %x", len(field), md5.Sum(field)))
	numbers(db)
	say("parameter", rows(db.Query("SELECT SHA2(?, 256)", strings.Repeat("x", 17_000_000))))

	mysql.RegisterLocalFile(file)
	_, err = db.Exec("LOAD DATA LOCAL INFILE '" + file + "' INTO TABLE loaded")
	check(err)
	say("infile", rows(db.Query("SELECT COUNT(*), SUM(id) FROM loaded")))

	check(db.Ping())
	say("ping", "ok")
}

func numbers(db *sql.DB) {
	result, err := db.Query("SELECT n FROM numbers")
	check(err)
	var count, sum, n int
	for result.Next() {
		check(result.Scan(&n))
		count++
		sum += n
	}
	check(result.Err())
	say("rows", fmt.Sprint(count, " ", sum))
}

// All rows of all results.
func rows(result *sql.Rows, err error) string {
	check(err)
	defer result.Close()
	var lines []string
	for more := true; more; more = result.NextResultSet() {
		types, err := result.ColumnTypes()
		check(err)
		values := make([]sql.RawBytes, len(types))
		targets := make([]any, len(types))
		for i := range values {
			targets[i] = &values[i]
		}
		for result.Next() {
			check(result.Scan(targets...))
			words := make([]string, len(types))
			for i, value := range values {
				switch {
				case value == nil:
					words[i] = "NULL"
				case types[i].DatabaseTypeName() == "VARBINARY":
					words[i] = fmt.Sprintf("%x", []byte(value))
				default:
					words[i] = string(value)
				}
			}
			lines = append(lines, strings.Join(words, " "))
		}
	}
	check(result.Err())
	if len(lines) == 0 {
		return "-"
	}
	return strings.Join(lines, " / ")
}

func failure(db *sql.DB, step, statement string) {
	_, err := db.Query(statement)
	var refused *mysql.MySQLError
	if !errors.As(err, &refused) {
		log.Fatal(step, ": ", err)
	}
	say(step, fmt.Sprint(refused.Number))
}

func version() string {
	build, _ := debug.ReadBuildInfo()
	for _, module := range build.Deps {
		if module.Path == "github.com/go-sql-driver/mysql" {
			return module.Version
		}
	}
	return "unknown"
}

func say(words ...string) { fmt.Println(strings.Join(words, " ")) }

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
