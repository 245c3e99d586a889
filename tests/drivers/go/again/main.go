// Connects several times, runs a few statements and ignores all errors, because the server is hostile.
package main

import (
	"context"
	"database/sql"
	"io"
	"log"
	"os"
	"strconv"
	"time"

	"github.com/go-sql-driver/mysql"
)

func main() {
	if len(os.Args) != 8 {
		log.Fatal("usage: again HOST PORT USER PASSWORD DATABASE FILE TIMES")
	}
	mysql.SetLogger(log.New(io.Discard, "", 0))
	config := mysql.NewConfig()
	config.Net, config.Addr = "tcp", os.Args[1]+":"+os.Args[2]
	config.User, config.Passwd, config.DBName = os.Args[3], os.Args[4], os.Args[5]
	config.ReadTimeout = 5 * time.Second
	// Sends any file that the server requests.
	config.AllowAllFiles = true
	times, err := strconv.Atoi(os.Args[7])
	if err != nil {
		log.Fatal(err)
	}
	connector, err := mysql.NewConnector(config)
	if err != nil {
		log.Fatal(err)
	}
	for ; times > 0; times-- {
		done := make(chan struct{})
		go func() {
			defer close(done)
			// The server can also make the driver panic.
			defer func() { recover() }()
			pool := sql.OpenDB(connector)
			attempt(pool)
			pool.Close()
		}()
		// Do not wait longer, because an invalid response can make the driver hang.
		select {
		case <-done:
		case <-time.After(2 * time.Second):
		}
	}
}

func attempt(pool *sql.DB) {
	ctx := context.Background()
	connection, err := pool.Conn(ctx)
	if err != nil {
		return
	}
	defer connection.Close()
	for _, statement := range []string{"SELECT 1", "DO 0", "SELECT 1"} {
		read(connection.QueryContext(ctx, statement))
	}
	read(connection.QueryContext(ctx, "SELECT ?", 1))
	connection.ExecContext(ctx, "DO 0")
	connection.PingContext(ctx)
	read(connection.QueryContext(ctx, "SELECT 1"))
}

// Reads all rows of all results.
func read(result *sql.Rows, err error) {
	if err != nil {
		return
	}
	defer result.Close()
	for more := true; more; more = result.NextResultSet() {
		for result.Next() {
		}
	}
}
