//! The schema, version by version.

use rusqlite::{Connection, Transaction};

/// `swrm`: a database of this program.
pub const APPLICATION_ID: i32 = 0x7377_726d;

/// What makes each version of the one before. Never changed, only added to.
pub const MIGRATIONS: &[&str] = &[
    include_str!("1.sql"),
    include_str!("2-operations.sql"),
    include_str!("3-labels.sql"),
    include_str!("4-completion.sql"),
    include_str!("5-keeping.sql"),
];

/// Brings a database to the last of these versions, in one transaction.
pub fn migrate(connection: &mut Connection, from: usize, migrations: &[&str]) -> rusqlite::Result<()> {
    if from == migrations.len() {
        return Ok(());
    }
    let transaction = connection.transaction()?;
    migrations[from..].iter().try_for_each(|sql| transaction.execute_batch(sql))?;
    mark(&transaction, migrations.len())?;
    transaction.commit()
}

fn mark(transaction: &Transaction<'_>, version: usize) -> rusqlite::Result<()> {
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", version as i64)
}
