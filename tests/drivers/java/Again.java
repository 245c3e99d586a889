import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.Statement;
import java.util.Properties;

/** Connects several times, runs a few statements and ignores all errors, because the server is hostile. */
class Again {
    private interface Attempt {
        void run() throws Exception;
    }

    public static void main(String[] args) {
        String kind = args[0];
        Properties options = new Properties();
        options.setProperty("user", args[3]);
        options.setProperty("password", args[4]);
        options.setProperty("useServerPrepStmts", "true");
        options.setProperty("allowPublicKeyRetrieval", "true");
        options.setProperty("allowLocalInfile", "true");
        options.setProperty("allowLoadLocalInfile", "true");
        options.setProperty("sslMode", kind.equals("mariadb") ? "disable" : "DISABLED");
        options.setProperty("useSSL", "false");
        options.setProperty("characterEncoding", "UTF-8");
        options.setProperty("connectTimeout", "5000");
        options.setProperty("socketTimeout", "5000");
        String url = "jdbc:%s://%s:%s/%s".formatted(kind, args[1], args[2], args[5]);
        for (int time = 0; time < Integer.parseInt(args[7]); time++) {
            attempt(() -> {
                try (Connection db = DriverManager.getConnection(url, options)) {
                    once(db);
                }
            });
        }
    }

    private static void once(Connection db) {
        for (String text : new String[] {"SELECT 1", "DO 0", "SELECT 1"}) {
            attempt(() -> {
                try (Statement statement = db.createStatement()) {
                    statement.execute(text);
                    read(statement);
                }
            });
        }
        attempt(() -> {
            try (PreparedStatement statement = db.prepareStatement("SELECT ?")) {
                statement.setInt(1, 1);
                statement.execute();
                read(statement);
            }
        });
        attempt(() -> db.isValid(5));
        attempt(() -> {
            try (Statement statement = db.createStatement()) {
                statement.execute("SELECT 1");
                read(statement);
            }
        });
    }

    private static void read(Statement statement) throws Exception {
        for (int results = 0; results < 100; results++) {
            ResultSet result = statement.getResultSet();
            while (result != null && result.next()) {
                result.getString(1);
            }
            if (!statement.getMoreResults() && statement.getUpdateCount() == -1) {
                return;
            }
        }
    }

    /** Catches everything, because an invalid response can also exhaust the driver's memory. */
    private static void attempt(Attempt attempt) {
        try {
            attempt.run();
        } catch (Throwable e) {
            // Ignored.
        }
    }
}
