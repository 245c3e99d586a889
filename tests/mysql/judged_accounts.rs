//! Envoy's RBAC filter and access log after the native module.

use std::path::Path;

use serde_json::{Value, json};

/// Adds Envoy's RBAC filter, which allows the account `app` only, and an access log of this format to a listener.
pub fn judge_accounts(listener: &mut Value, log: &Path, format: &str) {
    let filters = listener["filter_chains"][0]["filters"].as_array_mut().expect("filters");
    let state = |matches: Value| json!({"filter_state": {"key": "firstword.user", "string_match": matches}});
    let any = json!({"safe_regex": {"regex": ".*"}});
    let principal = json!({"or_ids": {"ids": [{"not_id": state(any)}, state(json!({"exact": "app"}))]}});
    let rbac = json!({
        "name": "envoy.filters.network.rbac",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC",
            "stat_prefix": "mysql_users.",
            "enforcement_type": "CONTINUOUS",
            "rules": {"action": "ALLOW", "policies": {
                "users": {"permissions": [{"any": true}], "principals": [principal]},
            }},
        },
    });
    filters[1]["typed_config"]["access_log"] = json!([{
        "name": "envoy.access_loggers.file",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
            "path": log,
            "log_format": {"text_format_source": {"inline_string": format!("{format}\n")}},
        },
    }]);
    filters.insert(1, rbac);
}
