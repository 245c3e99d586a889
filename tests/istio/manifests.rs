//! Each manifest by itself: the API server accepts it, and it keeps the rules of the folder `istio/`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use firstword::config::Config;
use firstword::metrics::Profile;
use firstword::metrics::catalogue::Metric;
use serde_json::{Value, json};

use crate::pilot::resource::{Resource, parse};
use crate::schemas::Schemas;
use firstword_testing::{root, temp_dir, wasm};

pub fn directory() -> PathBuf {
    root().join("istio")
}

/// Resources of a manifest, given as a path in `istio/`.
pub fn resources(path: &str) -> Vec<Resource> {
    parse(&std::fs::read_to_string(directory().join(path)).unwrap_or_else(|e| panic!("istio/{path}: {e}")))
}

/// Annotations that the shipped component adds to pods.
pub fn annotations() -> Value {
    let [deployment] =
        resources("components/pod-annotations/annotations.yaml").try_into().expect("one document");
    deployment.document["spec"]["template"]["metadata"]["annotations"].clone()
}

/// Each manifest with its resources, except files that only kustomize reads.
fn all() -> Vec<(String, Vec<Resource>)> {
    let mut paths = Vec::new();
    collect(&directory(), &mut paths);
    paths.sort();
    let read = |path: PathBuf| {
        let name = path.strip_prefix(directory()).expect("below istio").to_str().expect("a path").to_owned();
        let resources = resources(&name);
        (name, resources)
    };
    paths.into_iter().map(read).collect()
}

fn collect(directory: &Path, paths: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, paths);
        } else if path.extension().is_some_and(|extension| extension == "yaml")
            && path.file_name().is_some_and(|name| name != "kustomization.yaml")
        {
            paths.push(path);
        }
    }
}

/// Name of a document in messages.
fn location(file: &str, resource: &Resource) -> String {
    format!("istio/{file}: {} {}", resource.kind, resource.name)
}

#[test]
fn the_api_server_accepts_each_manifest() {
    let schemas = Schemas::read();
    let mut kinds = BTreeSet::new();
    for (file, resources) in all() {
        for resource in resources {
            kinds.insert(resource.kind.clone());
            assert_eq!(schemas.problems(&resource), [""; 0], "{}", location(&file, &resource));
        }
    }
    let expected = [
        "ConfigMap",
        "Deployment",
        "DestinationRule",
        "EnvoyFilter",
        "Gateway",
        "PeerAuthentication",
        "ProxyConfig",
        "Service",
        "ServiceEntry",
        "Sidecar",
        "TrafficExtension",
        "VirtualService",
        "WasmPlugin",
    ];
    assert!(kinds.iter().eq(expected), "{kinds:?}");
}

/// An editor finds the schema of `pluginConfig` by the first line of the manifest.
#[test]
fn each_manifest_with_a_plugin_names_its_schema() {
    let mut count = 0;
    for (file, resources) in all() {
        let path = directory().join(&file);
        let text = std::fs::read_to_string(&path).expect("a manifest");
        let schema =
            text.lines().next().and_then(|line| line.strip_prefix("# yaml-language-server: $schema="));
        let has_plugin = resources.iter().any(|resource| resource.kind == "WasmPlugin");
        assert_eq!(schema.is_some(), has_plugin, "istio/{file}");
        if let Some(schema) = schema {
            let schema = path.with_file_name("").join(schema).canonicalize().expect("the schema");
            assert_eq!(schema, root().join("docs/schemas/kubernetes.json"), "istio/{file}");
            count += 1;
        }
    }
    assert_eq!(count, 4);
}

#[test]
fn the_api_server_refuses_each_mistake() {
    let schemas = Schemas::read();
    let wrong = [
        ("envoyfilter/inbound.yaml", "portNumber", "portNumbr"),
        ("envoyfilter/inbound.yaml", "SIDECAR_INBOUND", "SIDECAR_IN"),
        ("envoyfilter/inbound.yaml", "priority", "prio"),
        ("base/wasmplugin.yaml", "type: NETWORK", "type: TCP"),
        ("base/wasmplugin.yaml", "url:", "uri:"),
        ("base/wasmplugin.yaml", "failStrategy", "failstrategy"),
        ("base/wasmplugin.yaml", "{number: 3306}", "{number: '3306'}"),
        ("scenarios/port-conflict/serviceentry.yaml", "resolution: NONE", "resolution: NO"),
        ("envoyfilter/peerauthentication.yaml", "DISABLE", "OFF"),
    ];
    for (file, right, wrong) in wrong {
        let text = std::fs::read_to_string(directory().join(file)).expect(file);
        assert!(text.contains(right), "{file} has no {right}");
        let [resource] = parse(&text.replace(right, wrong)).try_into().expect("one document");
        assert_ne!(schemas.problems(&resource), [""; 0], "{file} with {wrong}");
    }
}

#[test]
fn each_manifest_keeps_our_rules() {
    let mut references_found = BTreeSet::new();
    for (file, resources) in all() {
        for resource in resources {
            let location = location(&file, &resource);
            match resource.kind.as_str() {
                "EnvoyFilter" => assert_envoy_filter(&resource, &location, &mut references_found),
                "WasmPlugin" => {
                    assert!(
                        resource.spec()["selector"]["matchLabels"].is_object(),
                        "{location}: no selector"
                    );
                    assert_eq!(resource.spec()["failStrategy"], "FAIL_OPEN", "{location}");
                    assert_configuration(&resource.spec()["pluginConfig"].to_string(), &location);
                    assert_image(&resource.spec()["url"], &location);
                }
                "TrafficExtension" => {
                    let wasm = &resource.spec()["wasm"];
                    assert!(resource.spec()["targetRefs"].is_array(), "{location}: no targetRefs");
                    assert_eq!(
                        (&wasm["failStrategy"], &wasm["type"]),
                        (&json!("FAIL_OPEN"), &json!("NETWORK"))
                    );
                    assert_configuration(&wasm["pluginConfig"].to_string(), &location);
                    assert_image(&wasm["url"], &location);
                }
                "PeerAuthentication" | "ProxyConfig" => {
                    assert!(
                        resource.spec()["selector"]["matchLabels"].is_object(),
                        "{location}: no selector"
                    );
                }
                "Sidecar" => {
                    assert!(
                        resource.spec()["workloadSelector"]["labels"].is_object(),
                        "{location}: no selector"
                    );
                }
                _ => {}
            }
        }
    }
    assert_eq!(
        references_found.len(),
        1,
        "the filter's reference is not the same everywhere: {references_found:#?}"
    );
}

pub fn assert_envoy_filter(resource: &Resource, location: &str, references_found: &mut BTreeSet<String>) {
    let spec = resource.spec();
    assert!(spec["priority"].is_i64(), "{location}: no priority");
    let patches = spec["configPatches"].as_array().expect("patches");
    // An extension may be for all proxies, because a proxy requests it by name.
    let extensions = patches.iter().all(|patch| patch["applyTo"] == "EXTENSION_CONFIG");
    // A waypoint has no labels of its own. Its Gateway is the target.
    let selects =
        spec["workloadSelector"]["labels"].is_object() || spec["targetRefs"][0]["kind"] == "Gateway";
    assert!(extensions || selects, "{location}: no workloadSelector");
    for patch in patches {
        let (of, operation) = (&patch["applyTo"], &patch["patch"]["operation"]);
        assert!(of != "LISTENER_FILTER" || operation != "REPLACE", "{location}: istioctl analyze refuses it");
        collect_references(&patch["patch"]["value"], references_found);
        if of == "EXTENSION_CONFIG" {
            let config = &patch["patch"]["value"]["typed_config"]["config"];
            assert_eq!(config["fail_open"], true, "{location}");
            assert_eq!(config.get("failure_policy"), None, "{location}: Envoy refuses both");
            assert_configuration(
                config["configuration"]["value"].as_str().expect("JSON in a string"),
                location,
            );
            assert_image(&config["vm_config"]["code"]["remote"]["http_uri"]["uri"], location);
        }
    }
}

/// Collects the references to filters that Envoy discovers by name.
fn collect_references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(entries) if entries.contains_key("config_discovery") => {
            found.insert(value.to_string());
        }
        Value::Object(entries) => entries.values().for_each(|entry| collect_references(entry, found)),
        Value::Array(items) => items.iter().for_each(|item| collect_references(item, found)),
        _ => {}
    }
}

/// Asserts that the filter accepts this configuration.
fn assert_configuration(json: &str, location: &str) {
    let config = Config::parse(json.as_bytes()).unwrap_or_else(|problems| panic!("{location}: {problems}"));
    assert_ne!(config, Config::default(), "{location}");
}

/// Asserts that the image is the placeholder. Its registry and digest exist nowhere, so a fetch of it fails loudly.
fn assert_image(url: &Value, location: &str) {
    assert_eq!(*url, format!("oci://registry.example.com/firstword@sha256:{}", "0".repeat(64)), "{location}");
}

#[test]
fn the_annotation_names_each_label() {
    let annotations = annotations();
    let tags = annotations["sidecar.istio.io/extraStatTags"].as_str().expect("the annotation");
    let tags: Vec<_> = tags.split(',').collect();
    let labels = Metric::ALL.iter().flat_map(|metric| metric.definition().labels(Profile::Full));
    // Only the native module counts TLS that it starts, and its labels need no annotation.
    let labels = labels.map(|label| label.key()).filter(|label| *label != "side");
    let scope = ["direction", "destination", "port", "le"];
    let expected: BTreeSet<_> = labels.chain(scope).collect();
    assert_eq!(tags.iter().copied().collect::<BTreeSet<_>>(), expected);
    assert_eq!(tags.len(), expected.len(), "a label is there twice");
    for tag in &tags {
        // No label may be the end of another, because Istio would find it there.
        let inside = tags.iter().find(|other| *other != tag && other.ends_with(tag));
        assert_eq!(inside, None, "{tag}");
    }
}

/// Output of `kubectl kustomize` for a folder in `istio/`, or for a copy of it.
pub fn kustomized(directory: &Path) -> Vec<Resource> {
    let kustomize = root().join("target/tools/kustomize");
    let output = Command::new(kustomize).arg("build").arg(directory).output();
    let output = output.unwrap_or_else(|e| panic!("kustomize: {e}; run: make tools-istio"));
    assert!(output.status.success(), "{}: {}", directory.display(), String::from_utf8_lossy(&output.stderr));
    let resources = parse(&String::from_utf8(output.stdout).expect("UTF-8"));
    let schemas = Schemas::read();
    for resource in &resources {
        assert_eq!(
            schemas.problems(resource),
            [""; 0],
            "{}",
            location(&directory.display().to_string(), resource)
        );
    }
    resources
}

pub fn one<'r>(resources: &'r [Resource], kind: &str) -> &'r Value {
    let found: Vec<_> = resources.iter().filter(|resource| resource.kind == kind).collect();
    let [one] = found.as_slice() else { panic!("{} of {kind}", found.len()) };
    &one.document
}

#[test]
fn the_base_contains_only_the_plugin() {
    let [base] = kustomized(&directory().join("base")).try_into().expect("one document");
    assert_eq!(base.document, resources("base/wasmplugin.yaml")[0].document);
}

/// Both have the same place in the chain, because only their rules differ. The cases show it for the base.
#[test]
fn the_plugin_against_hazards_differs_from_the_base_in_its_rules() {
    let of = |file| resources(file)[0].document.clone();
    let (mut base, mut hazards) = (of("base/wasmplugin.yaml"), of("scenarios/hazards/wasmplugin.yaml"));
    let rules = |plugin: &mut Value| plugin["spec"]["pluginConfig"]["rules"].take();
    let (plain, protecting) = (rules(&mut base), rules(&mut hazards));
    assert_eq!(base, hazards);
    let key = |rules: &Value, key: &str| rules[0][key].clone();
    for same in ["name", "match", "protocol"] {
        assert_eq!(key(&plain, same), key(&protecting, same));
    }
    assert_eq!(protecting[1]["match"]["addresses"], json!([crate::case::MYSQL_SERVICE.to_string()]));
    assert_eq!(protecting[1]["mysql"]["clear_capabilities"], json!(["compress", "zstd", "ssl"]));
}

#[test]
fn the_example_overlay_replaces_names_ports_and_addresses() {
    let output = kustomized(&directory().join("overlays/example"));
    let kinds: Vec<_> = output.iter().map(|resource| resource.kind.as_str()).collect();
    // No Deployment, because an example must not start pods when it is applied as it is.
    assert_eq!(kinds, ["WasmPlugin", "ServiceEntry"]);
    assert!(output.iter().all(|resource| resource.namespace == "shop"), "{output:?}");
    let plugin = one(&output, "WasmPlugin");
    assert_eq!(plugin["spec"]["match"], json!([{"mode": "CLIENT", "ports": [{"number": 3307}]}]));
    let rule = &plugin["spec"]["pluginConfig"]["rules"][0];
    assert_eq!(rule["match"], json!({"ports": [3307], "addresses": ["10.20.30.40"]}));
    assert_eq!(one(&output, "ServiceEntry")["spec"]["addresses"], json!(["10.20.30.40"]));
    assert_configuration(&plugin["spec"]["pluginConfig"].to_string(), "overlays/example");
    assert_image(&plugin["spec"]["url"], "overlays/example");
}

/// A kustomization that lists a Deployment and the component puts the annotations on its pods.
#[test]
fn the_component_annotates_the_deployments_of_an_overlay() {
    let copy = temp_dir();
    let status = Command::new("cp").arg("-r").arg(directory()).arg(copy.path()).status().expect("cp");
    assert!(status.success());
    let overlay = copy.path().join("istio/overlays/example");
    let path = overlay.join("kustomization.yaml");
    let kustomization = std::fs::read_to_string(&path).expect("the kustomization");
    let with_deployment =
        kustomization.replacen("- serviceentry.yaml", "- serviceentry.yaml\n- deployment.yaml", 1);
    assert_ne!(kustomization, with_deployment);
    std::fs::write(&path, with_deployment).expect("the kustomization");
    let container = json!({"name": "app", "image": "registry.example.com/app"});
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "app", "labels": {"app": "app"}},
        "spec": {
            "selector": {"matchLabels": {"app": "app"}},
            "template": {"metadata": {"labels": {"app": "app"}}, "spec": {"containers": [container]}},
        },
    });
    // JSON is YAML.
    std::fs::write(overlay.join("deployment.yaml"), deployment.to_string()).expect("the Deployment");
    let output = kustomized(&overlay);
    let (pod, plugin) = (&one(&output, "Deployment")["spec"]["template"], one(&output, "WasmPlugin"));
    assert_eq!(pod["metadata"]["annotations"], annotations());
    assert_eq!(pod["metadata"]["labels"], plugin["spec"]["selector"]["matchLabels"]);
}

#[test]
fn the_envoyfilter_overlay_replaces_names_ports_and_addresses() {
    let output = kustomized(&directory().join("overlays/envoyfilter"));
    let mut references_found = BTreeSet::new();
    for resource in &output {
        assert_envoy_filter(resource, &location("overlays/envoyfilter", resource), &mut references_found);
    }
    let [extension, outbound] = output.as_slice() else { panic!("{output:?}") };
    assert_eq!((extension.namespace.as_str(), outbound.namespace.as_str()), ("istio-system", "shop"));
    let configuration = &extension.spec()["configPatches"][0]["patch"]["value"]["typed_config"]["config"];
    let configuration = configuration["configuration"]["value"].as_str().expect("JSON in a string");
    let configuration: Value = serde_json::from_str(configuration).expect("JSON");
    let rule = &configuration["rules"][0];
    assert_eq!(rule["match"], json!({"ports": [3307], "addresses": ["10.20.30.40"]}));
    // Only one patch, because two for the same listener would insert the filter twice.
    let [patch] = outbound.spec()["configPatches"].as_array().expect("patches").as_slice() else {
        panic!("{outbound:?}")
    };
    assert_eq!(patch["match"]["listener"]["portNumber"], 3307);
}

#[test]
fn the_config_map_overlay_mounts_the_module_at_the_plugins_url() {
    let output = kustomized(&directory().join("overlays/configmap"));
    let plugin = one(&output, "WasmPlugin");
    let text = std::fs::read_to_string(directory().join("overlays/configmap/kustomization.yaml"));
    let text = text.expect("the overlay");
    let command = text.lines().find_map(|line| line.strip_prefix("#   kubectl create configmap "));
    let (map, options) = command.expect("the first command").split_once(' ').expect("options");
    assert_eq!(options, "-n default --from-file=target/firstword.wasm");
    assert_eq!(plugin["metadata"]["namespace"], "default");
    let module = std::fs::read(wasm()).expect("the module");
    assert!(module.len() < 1 << 20, "a ConfigMap holds no more than 1 MiB");

    let [mount] = resources("overlays/configmap/mount.yaml").try_into().expect("one document");
    let annotations = &mount.document["spec"]["template"]["metadata"]["annotations"];
    let json = |key: &str| -> Value {
        serde_json::from_str(annotations[key].as_str().expect("an annotation")).expect("JSON")
    };
    // Istio's injection template connects both by the volume's name.
    let (volumes, mounts) = (json("sidecar.istio.io/userVolume"), json("sidecar.istio.io/userVolumeMount"));
    assert_eq!(volumes["firstword"]["configMap"]["name"], map);
    let path = mounts["firstword"]["mountPath"].as_str().expect("a path");
    assert_eq!(plugin["spec"]["url"], format!("file://{path}/firstword.wasm"));
}
