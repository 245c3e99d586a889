//! The environment and the arguments of a container, as a kubelet computes them from the Pod.

use std::collections::BTreeMap;

use serde_json::Value;

/// The variables of a container. References to fields of the Pod become their values.
pub fn variables(pod: &Value, container: &Value) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    for variable in container["env"].as_array().into_iter().flatten() {
        let name = variable["name"].as_str().expect("a variable's name").to_owned();
        let value = if let Some(field) = variable["valueFrom"]["fieldRef"]["fieldPath"].as_str() {
            field_of(pod, field)
        } else if let Some(resource) = variable["valueFrom"]["resourceFieldRef"]["resource"].as_str() {
            limit(container, resource)
        } else {
            assert!(variable["valueFrom"].is_null(), "the node cannot resolve {variable}");
            expand(variable["value"].as_str().unwrap_or_default(), &variables)
        };
        variables.insert(name, value);
    }
    variables
}

/// Arguments of a container, with their `$(VARIABLE)` replaced.
pub fn arguments(container: &Value, variables: &BTreeMap<String, String>) -> Vec<String> {
    let arguments = container["args"].as_array().into_iter().flatten();
    arguments.map(|argument| expand(argument.as_str().expect("an argument"), variables)).collect()
}

/// A field of the Pod, by its path in the downward API.
pub fn field_of(pod: &Value, path: &str) -> String {
    if let Some((map, key)) = path.split_once("['") {
        let key = key.strip_suffix("']").unwrap_or_else(|| panic!("{path}: expected ['KEY']"));
        return pod["metadata"][map.trim_start_matches("metadata.")][key].as_str().unwrap_or_default().into();
    }
    let value = path.split('.').fold(pod, |value, key| &value[key]);
    match value {
        Value::String(text) => text.clone(),
        Value::Object(map) => {
            // A kubelet quotes the values.
            let line = |(key, value): (&String, &Value)| format!("{key}={value}");
            map.iter().map(line).collect::<Vec<_>>().join("\n")
        }
        _ => panic!("the Pod has no field {path}"),
    }
}

/// A limit of the container, or what the machine has.
fn limit(container: &Value, resource: &str) -> String {
    let name =
        resource.strip_prefix("limits.").unwrap_or_else(|| panic!("the node does not know {resource}"));
    match (name, container["resources"]["limits"][name].as_str()) {
        ("cpu", Some(limit)) => match limit.strip_suffix('m') {
            Some(millis) => millis.parse::<u32>().expect("a number").div_ceil(1000).to_string(),
            None => limit.to_owned(),
        },
        ("cpu", None) => std::thread::available_parallelism().map_or(1, usize::from).to_string(),
        ("memory", Some(limit)) => {
            let (number, unit) = limit.split_at(limit.len() - 2);
            let shift = match unit {
                "Mi" => 20,
                "Gi" => 30,
                _ => panic!("the node does not know the unit of {limit}"),
            };
            (number.parse::<u64>().expect("a number") << shift).to_string()
        }
        ("memory", None) => memory().to_string(),
        _ => panic!("the node does not know {resource}"),
    }
}

/// Memory of the machine, in bytes.
fn memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").expect("/proc/meminfo");
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:")).expect("MemTotal");
    let kibibytes: u64 = total.trim().trim_end_matches(" kB").parse().expect("a number");
    kibibytes << 10
}

/// Replaces `$(NAME)` by the variable, and leaves it if there is no such variable.
fn expand(text: &str, variables: &BTreeMap<String, String>) -> String {
    let reference = regex::Regex::new(r"\$\(([A-Za-z_][A-Za-z0-9_.]*)\)").expect("an expression");
    let value =
        |found: &regex::Captures<'_>| variables.get(&found[1]).unwrap_or(&found[0].to_owned()).clone();
    reference.replace_all(text, value).into_owned()
}
