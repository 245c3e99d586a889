use std::path::PathBuf;

use mysql_async::consts::ColumnType;
use mysql_async::prelude::Queryable;
use mysql_async::{
    ChangeUserOpts, Conn, OptsBuilder, Row, SslOpts, TxOpts, Value, WhiteListFsHandler, from_value,
};

use crate::{Arguments, BATCH, Error, FIELD, LAST, STATEMENT, digest, names, rows, say};

pub(crate) async fn run(arguments: &Arguments) -> Result<(), Error> {
    let tls = match arguments.transport.as_str() {
        "plain" | "default" => None,
        "tls" => Some(
            SslOpts::default().with_danger_accept_invalid_certs(true).with_danger_skip_domain_validation(true),
        ),
        authority => {
            let authority = PathBuf::from(authority);
            Some(SslOpts::default().with_disable_built_in_roots(true).with_root_certs(vec![authority.into()]))
        }
    };
    let options = OptsBuilder::default()
        .ip_or_hostname(arguments.host.clone())
        .tcp_port(arguments.port)
        .user(Some(arguments.user.clone()))
        .pass(Some(arguments.password.clone()))
        .db_name(Some(arguments.database.clone()))
        .prefer_socket(false)
        .max_allowed_packet(Some(64 << 20))
        .local_infile_handler(Some(WhiteListFsHandler::new([arguments.file.clone()])))
        .ssl_opts(tls);
    let mut db = Conn::new(options).await?;

    say("text", text(&mut db, "SELECT * FROM kinds").await?);
    let prepared = db.prep(STATEMENT).await?;
    say("prepared", show(&db.exec::<Row, _, _>(&prepared, (1, 100)).await?));
    say("prepared-empty", show(&db.exec::<Row, _, _>(&prepared, (5, 100)).await?));
    db.close(prepared).await?;
    fails(&mut db, "missing-table", "SELECT * FROM nosuch").await?;
    fails(&mut db, "syntax-error", "SELECT FROM").await?;

    db.exec_batch("INSERT INTO batch VALUES (?, ?)", names()).await?;
    say("batch", text(&mut db, BATCH).await?);
    for step in ["rolled-back", "committed"] {
        let mut transaction = db.start_transaction(TxOpts::default()).await?;
        transaction.query_drop(LAST).await?;
        if step == "committed" {
            transaction.commit().await?
        } else {
            transaction.rollback().await?
        }
        say(step, text(&mut db, "SELECT COUNT(*) FROM batch").await?);
    }

    let mut results = db.query_iter("CALL two_results(5, @out)").await?;
    let mut called = Vec::new();
    while !results.is_empty() {
        let rows: Vec<Row> = results.collect().await?;
        if !rows.is_empty() {
            called.push(show(&rows));
        }
    }
    drop(results);
    say("call", called.join(" / "));
    say("out", text(&mut db, "SELECT @out").await?);
    let field: String = db.query_first(FIELD).await?.expect("a row");
    say("field", digest(&field));
    let (mut count, mut sum) = (0, 0);
    db.query_iter("SELECT n FROM numbers")
        .await?
        .for_each(|row| {
            count += 1;
            sum += from_value::<u64>(row[0].clone());
        })
        .await?;
    say("rows", format!("{count} {sum}"));
    let long = "x".repeat(17_000_000);
    say("parameter", show(&db.exec::<Row, _, _>("SELECT SHA2(?, 256)", (long,)).await?));
    db.query_drop(format!("LOAD DATA LOCAL INFILE '{}' INTO TABLE loaded", arguments.file)).await?;
    say("infile", text(&mut db, "SELECT COUNT(*), SUM(id) FROM loaded").await?);

    db.query_drop("SET @kept = 1").await?;
    db.reset().await?;
    say("reset", text(&mut db, "SELECT @kept").await?);
    db.query_drop("SET @kept = 1").await?;
    db.change_user(ChangeUserOpts::default()).await?;
    say("change-user", text(&mut db, "SELECT @kept").await?);
    db.ping().await?;
    say("ping", "ok");
    Ok(db.disconnect().await?)
}

async fn text(db: &mut Conn, statement: &str) -> Result<String, Error> {
    Ok(show(&db.query::<Row, _>(statement).await?))
}

async fn fails(db: &mut Conn, step: &str, statement: &str) -> Result<(), Error> {
    match db.query_drop(statement).await {
        Err(mysql_async::Error::Server(error)) => say(step, error.code),
        other => other?,
    }
    Ok(())
}

fn show(found: &[Row]) -> String {
    let written = found.iter().map(|row| {
        let values = row.columns_ref().iter().enumerate();
        values
            .map(|(index, column)| value(&row[index], column.column_type(), column.character_set()))
            .collect()
    });
    rows(&written.collect::<Vec<_>>())
}

fn value(value: &Value, kind: ColumnType, character_set: u16) -> String {
    // Strings of the character set `binary` are bytes.
    let is_binary = kind == ColumnType::MYSQL_TYPE_VAR_STRING && character_set == 63;
    match value {
        Value::NULL => "NULL".into(),
        Value::Bytes(bytes) if is_binary => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::Int(number) => number.to_string(),
        other => other.as_sql(true),
    }
}
