import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;

/**
 * Prepares a statement on the server and executes it, several times: `HOST PORT USER PASSWORD DATABASE CONNECTIONS TIMES
 * cursor|rows`. Each connection is a thread that stops at its first failure. Prints `done N`, the number of successes, and
 * `failed MESSAGE` for each connection that failed.
 */
class Prepares {
    public static void main(String[] args) throws Exception {
        String url = "jdbc:mysql://%s:%s/%s".formatted(args[0], args[1], args[4]);
        int connections = Integer.parseInt(args[5]), times = Integer.parseInt(args[6]);
        boolean cursor = args[7].equals("cursor");
        Properties options = new Properties();
        options.setProperty("user", args[2]);
        options.setProperty("password", args[3]);
        options.setProperty("useServerPrepStmts", "true");
        options.setProperty("useCursorFetch", Boolean.toString(cursor));
        options.setProperty("useSSL", "false");
        options.setProperty("allowPublicKeyRetrieval", "true");
        options.setProperty("characterEncoding", "UTF-8");
        // A longer wait is a hang, because each step is faster even on a slow machine.
        options.setProperty("socketTimeout", "8000");
        List<Connection> open = new ArrayList<>();
        for (int i = 0; i < connections; i++) {
            open.add(DriverManager.getConnection(url, options));
        }
        ExecutorService threads = Executors.newFixedThreadPool(connections);
        List<Future<Result>> running = new ArrayList<>();
        for (Connection db : open) {
            running.add(threads.submit(() -> run(db, times, cursor)));
        }
        int done = 0;
        for (Future<Result> result : running) {
            done += result.get().done();
            if (result.get().failure() != null) {
                System.out.println("failed " + result.get().failure());
            }
        }
        System.out.println("done " + done);
        threads.shutdown();
        threads.awaitTermination(1, TimeUnit.MINUTES);
        System.exit(0);
    }

    record Result(int done, String failure) {}

    private static Result run(Connection db, int times, boolean cursor) {
        int done = 0;
        try {
            for (; done < times; done++) {
                once(db, done, cursor);
            }
            db.close();
        } catch (SQLException | RuntimeException e) {
            return new Result(done, e.toString().replace('\n', ' '));
        }
        return new Result(done, null);
    }

    private static void once(Connection db, int number, boolean cursor) throws SQLException {
        try (PreparedStatement statement = db.prepareStatement("SELECT id, name FROM items WHERE id >= ? ORDER BY id")) {
            if (cursor) {
                statement.setFetchSize(2);
            }
            int from = 1 + number % 3;
            statement.setInt(1, from);
            try (ResultSet rows = statement.executeQuery()) {
                for (int id = from; id <= 5; id++) {
                    if (!rows.next() || rows.getInt(1) != id || !rows.getString(2).equals("item " + id)) {
                        throw new IllegalStateException("wrong row " + id);
                    }
                }
                if (rows.next()) {
                    throw new IllegalStateException("a row too many");
                }
            }
        }
    }
}
