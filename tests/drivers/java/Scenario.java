import java.io.InputStream;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import java.security.MessageDigest;
import java.security.cert.Certificate;
import java.security.cert.CertificateFactory;
import java.sql.CallableStatement;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.sql.Timestamp;
import java.sql.Types;
import java.time.format.DateTimeFormatter;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Properties;
import java.util.StringJoiner;

/** Scenario with any JDBC driver. The first argument is `mariadb` or `mysql`, and decides the options. */
class Scenario {
    /** Not secret: the store has an authority only. */
    private static final String STORE_PASSWORD = "changeit";

    private final Connection db;

    Scenario(Connection db) {
        this.db = db;
    }

    public static void main(String[] args) throws Exception {
        String kind = args[0], host = args[1], port = args[2], user = args[3], password = args[4], database = args[5];
        String file = args[6];
        String transport = args[7];
        Properties options = new Properties();
        options.setProperty("user", user);
        options.setProperty("password", password);
        options.setProperty("useServerPrepStmts", "true");
        options.setProperty("allowPublicKeyRetrieval", "true");
        options.setProperty("allowLocalInfile", "true");
        if (kind.equals("mariadb")) {
            // Pipelines commands, and sends batches in bulk.
            options.setProperty("useBulkStmts", "true");
            options.setProperty("useResetConnection", "true");
        } else {
            options.setProperty("useCursorFetch", "true");
            options.setProperty("allowLoadLocalInfile", "true");
            options.setProperty("characterEncoding", "UTF-8");
        }
        if (!transport.equals("default")) {
            setTls(options, kind, transport);
        }
        String url = "jdbc:%s://%s:%s/%s".formatted(kind, host, port, database);
        try (Connection db = DriverManager.getConnection(url, options)) {
            say("driver", db.getMetaData().getDriverName(), db.getMetaData().getDriverVersion().replaceAll(".*-j?| .*", ""));
            new Scenario(db).run(kind, file, user, password);
        }
    }

    private static void setTls(Properties options, String kind, String transport) throws Exception {
        boolean verifies = transport.startsWith("/");
        boolean tls = verifies || transport.equals("tls");
        if (kind.equals("mariadb")) {
            options.setProperty("sslMode", verifies ? "verify-full" : tls ? "trust" : "disable");
            if (verifies) {
                options.setProperty("serverSslCert", transport);
            }
            return;
        }
        options.setProperty("sslMode", verifies ? "VERIFY_IDENTITY" : tls ? "REQUIRED" : "DISABLED");
        // The names of these options in 5.1.
        options.setProperty("useSSL", Boolean.toString(tls));
        options.setProperty("verifyServerCertificate", Boolean.toString(verifies));
        options.setProperty("enabledTLSProtocols", "TLSv1.2");
        if (verifies) {
            options.setProperty("trustCertificateKeyStoreUrl", keyStore(transport).toUri().toString());
            options.setProperty("trustCertificateKeyStoreType", "PKCS12");
            options.setProperty("trustCertificateKeyStorePassword", STORE_PASSWORD);
        }
    }

    /** Copies an authority into a file that Connector/J can read. */
    private static Path keyStore(String authority) throws Exception {
        KeyStore store = KeyStore.getInstance("PKCS12");
        store.load(null, null);
        try (InputStream certificate = Files.newInputStream(Path.of(authority))) {
            Certificate parsed = CertificateFactory.getInstance("X.509").generateCertificate(certificate);
            store.setCertificateEntry("authority", parsed);
        }
        Path file = Files.createTempFile("authority", ".p12");
        file.toFile().deleteOnExit();
        try (OutputStream out = Files.newOutputStream(file)) {
            store.store(out, STORE_PASSWORD.toCharArray());
        }
        return file;
    }

    private void run(String kind, String file, String user, String password) throws Exception {
        say("text", query("SELECT * FROM kinds"));
        prepared();
        fails("missing-table", "SELECT * FROM nosuch");
        fails("syntax-error", "SELECT FROM");
        batch();
        transactions();
        call();
        String field = query("SELECT REPEAT('0123456789abcdef', 1048577)");
        byte[] digest = MessageDigest.getInstance("MD5").digest(field.getBytes(StandardCharsets.US_ASCII));
        say("field", field.length(), HexFormat.of().formatHex(digest));
        numbers("rows", 0);
        numbers("cursor", 1000);
        try (PreparedStatement statement = db.prepareStatement("SELECT SHA2(?, 256)")) {
            statement.setString(1, "x".repeat(17_000_000));
            say("parameter", rows(statement.executeQuery()));
        }
        execute("LOAD DATA LOCAL INFILE '" + file + "' INTO TABLE loaded");
        say("infile", query("SELECT COUNT(*), SUM(id) FROM loaded"));
        renew(kind, user, password);
        say("ping", db.isValid(10) ? "ok" : "failed");
    }

    private void prepared() throws SQLException {
        String text = "SELECT id, name, price FROM items WHERE id >= ? AND price < ? ORDER BY id";
        try (PreparedStatement statement = db.prepareStatement(text)) {
            statement.setInt(1, 1);
            statement.setInt(2, 100);
            say("prepared", rows(statement.executeQuery()));
            statement.setInt(1, 5);
            say("prepared-empty", rows(statement.executeQuery()));
        }
    }

    private void batch() throws SQLException {
        try (PreparedStatement statement = db.prepareStatement("INSERT INTO batch VALUES (?, ?)")) {
            for (int id = 1; id <= 100; id++) {
                statement.setInt(1, id);
                statement.setString(2, id % 2 == 0 ? null : "name " + id);
                statement.addBatch();
            }
            statement.executeBatch();
        }
        say("batch", query("SELECT COUNT(*), SUM(id), COUNT(name) FROM batch"));
    }

    private void transactions() throws SQLException {
        db.setAutoCommit(false);
        for (String step : List.of("rolled-back", "committed")) {
            execute("INSERT INTO batch VALUES (101, 'last')");
            if (step.equals("committed")) {
                db.commit();
            } else {
                db.rollback();
            }
            say(step, query("SELECT COUNT(*) FROM batch"));
        }
        db.setAutoCommit(true);
    }

    private void call() throws SQLException {
        try (CallableStatement call = db.prepareCall("{CALL two_results(?, ?)}")) {
            call.setInt(1, 5);
            call.registerOutParameter(2, Types.INTEGER);
            StringJoiner results = new StringJoiner(" / ");
            for (boolean more = call.execute(); more; more = call.getMoreResults()) {
                results.add(rows(call.getResultSet()));
            }
            say("call", results);
            say("out", call.getInt(2));
        }
    }

    /** With a fetch size, MySQL's driver uses a cursor, and MariaDB's driver reads the rows one by one. */
    private void numbers(String step, int fetchSize) throws SQLException {
        try (PreparedStatement statement = db.prepareStatement("SELECT n FROM numbers")) {
            statement.setFetchSize(fetchSize);
            ResultSet result = statement.executeQuery();
            long count = 0, sum = 0;
            for (; result.next(); count++) {
                sum += result.getInt(1);
            }
            say(step, count, sum);
        }
    }

    /** Resets the session by a method of the driver's class, because JDBC has none. MariaDB's method supports only MariaDB. */
    private void renew(String kind, String user, String password) throws Exception {
        boolean reset = kind.equals("mariadb");
        if (reset && !db.getMetaData().getDatabaseProductName().equals("MariaDB")) {
            return;
        }
        execute("SET @kept = 1");
        if (reset) {
            db.getClass().getMethod("reset").invoke(db);
        } else {
            db.getClass().getMethod("changeUser", String.class, String.class).invoke(db, user, password);
        }
        say(reset ? "reset" : "change-user", query("SELECT @kept"));
    }

    private void execute(String text) throws SQLException {
        try (Statement statement = db.createStatement()) {
            statement.execute(text);
        }
    }

    private String query(String text) throws SQLException {
        try (Statement statement = db.createStatement()) {
            return rows(statement.executeQuery(text));
        }
    }

    private void fails(String step, String text) {
        try {
            query(text);
            say(step, "none");
        } catch (SQLException e) {
            say(step, e.getErrorCode());
        }
    }

    private static String rows(ResultSet result) throws SQLException {
        int columns = result.getMetaData().getColumnCount();
        List<String> rows = new ArrayList<>();
        while (result.next()) {
            StringJoiner row = new StringJoiner(" ");
            for (int column = 1; column <= columns; column++) {
                Object value = result.getObject(column);
                if (value instanceof byte[] bytes) {
                    row.add(HexFormat.of().formatHex(bytes));
                } else if (value instanceof Timestamp at) {
                    row.add(at.toLocalDateTime().format(DateTimeFormatter.ofPattern("yyyy-MM-dd HH:mm:ss")));
                } else {
                    row.add(value == null ? "NULL" : result.getString(column));
                }
            }
            rows.add(row.toString());
        }
        return rows.isEmpty() ? "-" : String.join(" / ", rows);
    }

    private static void say(Object... words) {
        StringJoiner line = new StringJoiner(" ");
        for (Object word : words) {
            line.add(String.valueOf(word));
        }
        System.out.println(line);
    }
}
