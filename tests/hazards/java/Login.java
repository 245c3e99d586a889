import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;

/**
 * Logs in with the default settings and those in the arguments: `HOST PORT USER PASSWORD DATABASE [NAME=VALUE]...`. Prints
 * `cipher NAME` with the session's cipher, which is empty without TLS, or `failed MESSAGE`.
 */
class Login {
    public static void main(String[] args) {
        StringBuilder url = new StringBuilder("jdbc:mysql://%s:%s/%s?user=%s&password=%s"
                .formatted(args[0], args[1], args[4], args[2], args[3]));
        for (int i = 5; i < args.length; i++) {
            url.append('&').append(args[i]);
        }
        try (Connection db = DriverManager.getConnection(url.toString());
                Statement statement = db.createStatement();
                ResultSet rows = statement.executeQuery("SHOW SESSION STATUS LIKE 'Ssl_cipher'")) {
            rows.next();
            System.out.println("cipher " + rows.getString(2));
        } catch (SQLException failure) {
            System.out.println("failed " + failure.getMessage().replaceAll("\\s+", " "));
        }
    }
}
