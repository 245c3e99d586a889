use futures_util::TryStreamExt;
use sqlx::mysql::{MySqlConnectOptions, MySqlRow, MySqlSslMode};
use sqlx::types::BigDecimal;
use sqlx::types::chrono::{NaiveDate, NaiveDateTime};
use sqlx::{ConnectOptions, Connection, Executor, MySqlConnection, Row, TypeInfo, ValueRef};

use crate::{Arguments, BATCH, Error, FIELD, LAST, STATEMENT, digest, names, rows, say};

/// Runs the scenario. sqlx sends a `&str` as text, and prepares a statement from `query`.
pub(crate) async fn run(arguments: &Arguments) -> Result<(), Error> {
    let mut options = MySqlConnectOptions::new()
        .host(&arguments.host)
        .port(arguments.port)
        .username(&arguments.user)
        .password(&arguments.password)
        .database(&arguments.database);
    match arguments.transport.as_str() {
        "plain" => options = options.ssl_mode(MySqlSslMode::Disabled),
        "tls" => options = options.ssl_mode(MySqlSslMode::Required),
        "default" => {}
        authority => options = options.ssl_mode(MySqlSslMode::VerifyIdentity).ssl_ca(authority),
    }
    let mut db = options.connect().await?;

    say("text", text(&mut db, "SELECT * FROM kinds").await?);
    for (step, least) in [("prepared", 1), ("prepared-empty", 5)] {
        let found = sqlx::query(STATEMENT).bind(least).bind(100).fetch_all(&mut db).await?;
        say(step, show(&found));
    }
    fails(&mut db, "missing-table", "SELECT * FROM nosuch").await?;
    fails(&mut db, "syntax-error", "SELECT FROM").await?;

    for (id, name) in names() {
        sqlx::query("INSERT INTO batch VALUES (?, ?)").bind(id).bind(name).execute(&mut db).await?;
    }
    say("batch", text(&mut db, BATCH).await?);
    for step in ["rolled-back", "committed"] {
        let mut transaction = db.begin().await?;
        transaction.execute(LAST).await?;
        if step == "committed" {
            transaction.commit().await?
        } else {
            transaction.rollback().await?
        }
        say(step, text(&mut db, "SELECT COUNT(*) FROM batch").await?);
    }

    say("call", text(&mut db, "CALL two_results(5, @out)").await?);
    say("out", text(&mut db, "SELECT @out").await?);
    let field: String = db.fetch_one(FIELD).await?.try_get(0)?;
    say("field", digest(&field));
    let (mut count, mut sum) = (0, 0);
    let mut numbers = sqlx::query_scalar::<_, i32>("SELECT n FROM numbers").fetch(&mut db);
    while let Some(n) = numbers.try_next().await? {
        count += 1;
        sum += i64::from(n);
    }
    drop(numbers);
    say("rows", format!("{count} {sum}"));
    let found = sqlx::query("SELECT SHA2(?, 256)").bind("x".repeat(17_000_000)).fetch_all(&mut db).await?;
    say("parameter", show(&found));
    db.ping().await?;
    say("ping", "ok");
    Ok(db.close().await?)
}

async fn text(db: &mut MySqlConnection, statement: &'static str) -> Result<String, Error> {
    Ok(show(&db.fetch_all(statement).await?))
}

async fn fails(db: &mut MySqlConnection, step: &str, statement: &'static str) -> Result<(), Error> {
    match db.execute(statement).await {
        Err(sqlx::Error::Database(error)) => {
            let error = error.downcast_ref::<sqlx::mysql::MySqlDatabaseError>();
            say(step, error.number());
        }
        Ok(_) => say(step, "none"),
        Err(other) => return Err(other.into()),
    }
    Ok(())
}

fn show(found: &[MySqlRow]) -> String {
    let written = found.iter().map(|row| (0..row.len()).map(|column| value(row, column)).collect());
    rows(&written.collect::<Vec<_>>())
}

fn value(row: &MySqlRow, column: usize) -> String {
    let raw = row.try_get_raw(column).expect("a column");
    if raw.is_null() {
        return "NULL".into();
    }
    match raw.type_info().name() {
        "INT" => row.get::<i32, _>(column).to_string(),
        "BIGINT" => row.get::<i64, _>(column).to_string(),
        "BIGINT UNSIGNED" => row.get::<u64, _>(column).to_string(),
        "DECIMAL" => row.get::<BigDecimal, _>(column).to_string(),
        "DOUBLE" => row.get::<f64, _>(column).to_string(),
        "DATE" => row.get::<NaiveDate, _>(column).to_string(),
        "DATETIME" => row.get::<NaiveDateTime, _>(column).to_string(),
        "VARBINARY" => row.get::<Vec<u8>, _>(column).iter().map(|byte| format!("{byte:02x}")).collect(),
        _ => row.get::<String, _>(column),
    }
}
