//! Connects several times, runs a few statements and ignores all errors, because the server is hostile.

use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder, Row, WhiteListFsHandler};
use tokio::time::timeout;

use crate::{Arguments, Error};

/// Maximum time of a connection.
const MAX_TIME: Duration = Duration::from_secs(5);

pub(crate) async fn run(arguments: &Arguments, times: u32) -> Result<(), Error> {
    for _ in 0..times {
        // An invalid response can make the driver hang, or its task panic.
        let options = OptsBuilder::default()
            .ip_or_hostname(arguments.host.clone())
            .tcp_port(arguments.port)
            .user(Some(arguments.user.clone()))
            .pass(Some(arguments.password.clone()))
            .db_name(Some(arguments.database.clone()))
            .prefer_socket(false)
            .local_infile_handler(Some(WhiteListFsHandler::new([arguments.file.clone()])));
        let attempt = tokio::task::spawn_blocking(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.map(|runtime| runtime.block_on(async { drop(timeout(MAX_TIME, once(options)).await) }))
        });
        drop(attempt.await);
    }
    Ok(())
}

async fn once(options: OptsBuilder) -> Result<(), Error> {
    let mut db = Conn::new(options).await?;
    for statement in ["SELECT 1", "DO 0", "SELECT 1"] {
        drop(db.query::<Row, _>(statement).await);
    }
    drop(db.exec::<Row, _, _>("SELECT ?", (1,)).await);
    drop(db.ping().await);
    drop(db.query::<Row, _>("SELECT 1").await);
    Ok(())
}
