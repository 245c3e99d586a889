//! Fixes for the installation of the filter.

use std::net::IpAddr;

use super::template::{ANNOTATIONS, EXTENSION, fix};
use super::values::{address, number};
use super::workload::Workload;
use crate::findings::Fix;

impl Workload {
    pub(in super::super) fn annotations(&self) -> Fix {
        let name = ("name: app", format!("name: {}", self.name.as_deref().unwrap_or("app")));
        fix(
            "Add the annotations to the pods of the Deployment",
            "the pods restart.",
            &[(&ANNOTATIONS, &[name])],
        )
    }
}

/// The module and its configuration, by the name that listeners use.
pub(in super::super) fn extension(ip: Option<IpAddr>, port: u16) -> Fix {
    let mut values = number(10_000, port);
    match ip {
        Some(ip) => values.extend(address(ip)),
        None => values.push((r#", "addresses": ["55.108.108.2"]"#, String::new())),
    }
    fix(
        "Provide the module and its configuration",
        "put in the digest of your image. It needs rights in istio-system.",
        &[(&EXTENSION, &values)],
    )
}
