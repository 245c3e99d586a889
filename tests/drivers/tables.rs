//! Tables of the scenario.

/// Statements that set up a server once.
pub(super) const GIVEN: [&str; 7] = [
    "CREATE TABLE kinds (i INT, u BIGINT UNSIGNED, d DECIMAL(10,2), f DOUBLE, day DATE, at DATETIME, t VARCHAR(20), \
     b VARBINARY(20)) CHARACTER SET utf8mb4",
    "INSERT INTO kinds VALUES (-42, 18446744073709551615, 12.34, 1.5, '2024-02-29', '2024-02-29 12:34:56', \
     CONVERT(X'6772c3bcc39f65' USING utf8mb4), X'00ff10'), (NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)",
    "CREATE TABLE items (id INT, name VARCHAR(20), price DECIMAL(10,2))",
    "INSERT INTO items VALUES (1, 'one', 1.25), (2, NULL, -3.00), (3, 'three', NULL)",
    "CREATE TABLE numbers (n INT PRIMARY KEY)",
    "INSERT INTO numbers WITH digits AS (SELECT 0 AS d UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION \
     SELECT 5 UNION SELECT 6 UNION SELECT 7 UNION SELECT 8 UNION SELECT 9) SELECT a.d + 10 * b.d + 100 * c.d + \
     1000 * e.d + 10000 * f.d FROM digits a, digits b, digits c, digits e, digits f",
    "CREATE PROCEDURE two_results(IN n INT, OUT doubled INT) BEGIN SELECT n; \
     SELECT n AS id, 'second' AS name UNION ALL SELECT n + 1, NULL; SET doubled = 2 * n; END",
];

/// Statements before each run: they create the tables that a run fills, and clear the server's cache of passwords, so that
/// caching_sha2_password needs the full authentication.
pub(super) const FILLED: [&str; 6] = [
    "FLUSH PRIVILEGES",
    "DROP TABLE IF EXISTS batch, loaded, dumped",
    "CREATE TABLE batch (id INT PRIMARY KEY, name VARCHAR(20))",
    "CREATE TABLE loaded (id INT, name VARCHAR(20))",
    "CREATE TABLE dumped (n INT PRIMARY KEY)",
    "INSERT INTO dumped SELECT n FROM numbers WHERE n < 20000",
];
