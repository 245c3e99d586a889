//! Tables of host names: that of Istio's agent, and that of a DNS listener.

use std::net::IpAddr;

use serde_json::Value;

/// The table of Istio's agent (`istio.networking.nds.v1.NameTable`).
pub(super) fn of_istio(table: &Value) -> Vec<(String, Vec<IpAddr>)> {
    let hosts = table.get("table").and_then(Value::as_object).into_iter().flatten();
    hosts.map(|(host, info)| (host.to_ascii_lowercase(), addresses(info.get("ips")))).collect()
}

/// The table in a listener's `dns_filter`.
pub(super) fn of_listener(listener: &Value) -> Vec<(String, Vec<IpAddr>)> {
    let filters = listener.get("listener_filters").and_then(Value::as_array).into_iter().flatten();
    let tables = filters.filter_map(|filter| {
        filter
            .get("typed_config")?
            .get("server_config")?
            .get("inline_dns_table")?
            .get("virtual_domains")?
            .as_array()
    });
    let domain = |domain: &Value| {
        let host = domain.get("name")?.as_str()?.to_ascii_lowercase();
        let listed = domain.get("endpoint")?.get("address_list")?.get("address");
        Some((host, addresses(listed)))
    };
    tables.flatten().filter_map(domain).collect()
}

fn addresses(list: Option<&Value>) -> Vec<IpAddr> {
    let texts = list.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    texts.filter_map(|text| text.parse().ok()).collect()
}
