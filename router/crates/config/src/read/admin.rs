//! `[admin]`.

use std::net::SocketAddr;

use super::{Field, Table};
use crate::raw::Admin;

pub(super) fn read(top: &Table<'_>) -> Option<Admin> {
    let table = top.get("admin")?.table()?;
    let listen = table
        .required("listen", "add `listen = \"127.0.0.1:7090\"`, or remove [admin]: without it there is no door")
        .and_then(|field| address(&field));
    table.finish();
    Some(Admin { listen: listen? })
}

/// Who can reach the door can pause lanes and skip records, and nobody is asked who they are.
fn address(field: &Field<'_>) -> Option<SocketAddr> {
    let text = field.text("\"127.0.0.1:7090\"")?;
    let Ok(address) = text.value.parse::<SocketAddr>() else {
        field.wrong(
            &format!("is not an address: {:?}", text.shown),
            "write the number of an address and a port, \"127.0.0.1:7090\" or \"[::1]:7090\"",
        );
        return None;
    };
    if !address.ip().is_loopback() {
        field.wrong(
            &format!("can't be {:?}: the door has no authentication, and other machines could reach it there", text.shown),
            "listen at a loopback address, \"127.0.0.1:7090\", and get to it by `ssh -L`, `kubectl port-forward` or `kubectl exec`",
        );
        return None;
    }
    Some(address)
}
