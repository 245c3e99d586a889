//! HTTP/1.1, HTTP/2, TLS and gRPC through the filter, also before an HTTP connection manager, where Istio's WasmPlugin puts it.
//! The bytes are the same as without the filter, and the filter counts the connections.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::bootstrap::{MYSQL, filters, listeners, plugin, shipped, with_fast_flush};
use crate::counter_diff::{CounterDiff, wait_for_flushes};
use firstword_testing::connection_manager::connection_manager;
use firstword_testing::envoy::Envoy;
use firstword_testing::peer::closed_address;
use firstword_testing::process::{Process, in_path, read_log};
use firstword_testing::{built, temp_dir, wait_for};

/// Length of a large body.
const BIG: usize = 16 << 20;
const STREAMS: usize = 200;

/// A server in the folder `other_protocols`, on the port that it prints.
struct Script {
    address: SocketAddr,
    _process: Process,
    _files: TempDir,
}

fn python() -> PathBuf {
    built("FIRSTWORD_PYTHON", "target/tools/venv/bin/python", "make tools-servers")
}

fn script(name: &str) -> PathBuf {
    firstword_testing::root().join("tests/envoy/other_protocols").join(name)
}

impl Script {
    fn start(name: &str) -> Self {
        let files = temp_dir();
        let (out, log) = (files.path().join("out"), files.path().join("log"));
        let mut process = Process::start(&python(), &[script(name).into()], &out, &log);
        let port = wait_for("port of a server", Duration::from_secs(30), || {
            assert!(process.exit_status().is_none(), "{name}: {}", read_log(&log));
            let text = read_log(&out);
            text.ends_with('\n').then(|| text.trim().parse().expect("a port"))
        });
        Self { address: firstword_testing::loopback(port), _process: process, _files: files }
    }
}

/// Runs a program that must succeed. Returns its standard output.
fn run(program: &Path, arguments: &[OsString]) -> Vec<u8> {
    let mut command = Command::new(program);
    // Ignore a proxy in the environment, because it cannot connect to our loopback.
    let output = command.args(arguments).env("no_proxy", "*").output().expect("a program in PATH");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn routed(name: &str) -> Value {
    let to = |cluster: &str| json!({"cluster": cluster, "timeout": "0s"});
    let routes = json!([
        {"match": {"prefix": "/", "grpc": {}}, "route": to("grpc")},
        {"match": {"prefix": "/"}, "route": to("web")},
    ]);
    connection_manager(name, &routes)
}

fn tcp_proxy(name: &str) -> Value {
    json!({
        "name": "envoy.filters.network.tcp_proxy",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
            "stat_prefix": name,
            "cluster": "tls",
        },
    })
}

/// TLS with a new self-signed certificate.
pub fn tls(directory: &Path) -> Value {
    let (key, certificate) = (directory.join("key.pem"), directory.join("certificate.pem"));
    let mut arguments: Vec<OsString> =
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
            .split(' ')
            .map(Into::into)
            .collect();
    arguments.extend(["-keyout".into(), key.clone().into(), "-out".into(), certificate.clone().into()]);
    run(&in_path("openssl").expect("openssl in PATH"), &arguments);
    let pair = json!({"certificate_chain": {"filename": certificate}, "private_key": {"filename": key}});
    json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": {"tls_certificates": [pair], "alpn_protocols": ["h2", "http/1.1"]},
        },
    })
}

/// Listeners `http`, `https` and `passthrough`, each once with the filter and once without it (`-plain`). `passthrough`
/// connects to an HTTPS listener without the filter, on a Unix socket.
fn envoy(directory: &Path, web: SocketAddr, grpc: SocketAddr) -> Envoy {
    let tls = tls(directory);
    let socket = json!({"pipe": {"path": directory.join("tls.sock")}});
    let options = shipped(closed_address()).edit(|bootstrap| {
        let mut listener = listeners(bootstrap).remove(0);
        plugin(&mut listener)["configuration"]["value"] = json!(with_fast_flush(json!({})).to_string());
        let mut add = |name: &str, filtered: bool, last: Value, tls: Option<&Value>| {
            let mut listener = listener.clone();
            listener["name"] = json!(name);
            let filters = filters(&mut listener);
            filters.truncate(usize::from(filtered));
            filters.push(last);
            listener["filter_chains"][0]["transport_socket"] = json!(tls);
            listeners(bootstrap).push(listener);
        };
        for (suffix, filtered) in [("", true), ("-plain", false)] {
            let name = |kind: &str| format!("{kind}{suffix}");
            add(&name("http"), filtered, routed(&name("http")), None);
            add(&name("https"), filtered, routed(&name("https")), Some(&tls));
            add(&name("passthrough"), filtered, tcp_proxy(&name("passthrough")), None);
        }
        add("https-upstream", false, routed("https-upstream"), Some(&tls));
        listeners(bootstrap).last_mut().expect("a listener")["address"] = socket.clone();

        let clusters = bootstrap["static_resources"]["clusters"].as_array_mut().expect("clusters");
        for name in ["web", "grpc", "tls"] {
            let mut cluster = clusters[0].clone();
            cluster["name"] = json!(name);
            cluster["load_assignment"]["cluster_name"] = json!(name);
            if name == "grpc" {
                cluster["typed_extension_protocol_options"]["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"] = json!({
                    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                    "explicit_http_config": {"http2_protocol_options": {}},
                });
            }
            if name == "tls" {
                cluster["type"] = json!("STATIC");
                cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"] = socket.clone();
            }
            clusters.push(cluster);
        }
    });
    Envoy::start(options.upstream("web", web).upstream("grpc", grpc))
}

/// Headers and bodies that a client received, without the headers that differ between two responses.
fn curl(directory: &Path, url: &str, options: &str, paths: &[&str]) -> Vec<Vec<u8>> {
    let received = directory.join("received");
    std::fs::create_dir(&received).expect("a directory");
    let mut arguments: Vec<OsString> =
        ["--silent", "--show-error", "--fail", "--insecure", "--max-time", "60"].map(Into::into).into();
    arguments.extend(
        options
            .split_whitespace()
            .map(|option| option.replace("BIG", directory.join("big").to_str().expect("UTF-8")).into()),
    );
    for (index, path) in paths.iter().enumerate() {
        arguments.extend([
            format!("{url}{path}").into(),
            "--output".into(),
            received.join(format!("{index}-#1")).into(),
        ]);
    }
    arguments.extend(["--dump-header".into(), received.join("headers").into()]);
    run(&in_path("curl").expect("curl in PATH"), &arguments);
    let mut files: Vec<_> =
        std::fs::read_dir(&received).expect("files").flatten().map(|entry| entry.path()).collect();
    files.sort();
    let contents = files.iter().map(|file| {
        let bytes = std::fs::read(file).expect("a file");
        if file.ends_with("headers") { normalize_headers(&bytes) } else { bytes }
    });
    let contents = contents.collect();
    std::fs::remove_dir_all(received).expect("a directory");
    contents
}

/// Removes headers that differ between responses. Sorts the others, because streams end in any order.
fn normalize_headers(headers: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(headers);
    let is_volatile =
        |line: &&str| line.starts_with("date: ") || line.starts_with("x-envoy-upstream-service-time: ");
    let mut lines: Vec<_> = text.lines().filter(|line| !is_volatile(line)).collect();
    lines.sort_unstable();
    lines.join("\n").into_bytes()
}

struct Comparison<'e> {
    envoy: &'e Envoy,
    diff: CounterDiff<'e>,
}

impl Comparison<'_> {
    /// Asserts that `client` receives the same from both listeners, and that the filter's counts equal Envoy's.
    fn compare<T: PartialEq>(&mut self, listener: &str, seen: &str, client: impl Fn(SocketAddr) -> T) -> T {
        let envoy = self.envoy;
        let tunnelled = listener == "passthrough";
        let (kind, destination) = if tunnelled { ("tcp", "tls") } else { ("http", "passthrough") };
        let stat = |name: &str, what: &str| envoy.stat(&format!(r"^{kind}\.{name}\.downstream_cx_{what}$"));
        let wait_for_end = |name: &str| {
            let none = || (stat(name, "active") == 0).then_some(());
            wait_for("end of connections", Duration::from_secs(20), none);
            wait_for_flushes(envoy);
        };
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let ours = |metric: &str, label| {
            let labels = [label, ("destination", destination)];
            envoy.metric(&format!("firstword_{metric}"), &labels).unwrap_or_default() as u64
        };
        let counters = || {
            [
                stat(listener, "total"),
                stat(listener, "rx_bytes_total"),
                stat(listener, "tx_bytes_total"),
                envoy.stat(r"^cluster\.tls\.upstream_cx_rx_bytes_total$"),
                ours("bytes_total", ("sender", "server")),
                ours("connections_closed_total", ("closed_by", "server")),
            ]
        };

        let plain_name = format!("{listener}-plain");
        let plain = client(envoy.listener_addr(&plain_name));
        wait_for_end(&plain_name);
        let before = counters();
        let filtered = client(envoy.listener_addr(listener));
        assert!(plain == filtered, "{listener}: different bytes with the filter");
        wait_for_end(listener);
        let after = counters();
        let [connections, received, mut sent, upstream, counted, by_server] =
            std::array::from_fn(|index| after[index] - before[index]);
        assert!(connections > 0);
        if tunnelled {
            // A TLS client closes without reading the server's close_notify. The filter may see fewer bytes than the server
            // sent, and more than the client received.
            assert!((sent..=upstream).contains(&counted), "{sent} <= {counted} <= {upstream}");
            sent = counted;
            // The server closes on the client's close_notify, so either side may be the first to close.
            assert!(by_server <= connections);
        } else {
            assert_eq!(by_server, 0);
        }
        let labels = format!("destination={destination},direction=unspecified");
        self.diff.expect(&format!(
            "connections_total{{{labels},protocol=client_first}} {connections}
             client_first_total{{{labels},seen={seen}}} {connections}
             opaque_total{{{labels},reason=not_mysql}} {connections}
             connections_closed_total{{closed_by=client,{labels},phase=opaque}} {}
             connections_closed_total{{closed_by=server,{labels},phase=opaque}} {by_server}
             bytes_total{{{labels},sender=client}} {received}
             bytes_total{{{labels},sender=server}} {sent}",
            connections - by_server
        ));
        filtered
    }
}

#[test]
fn http_tls_and_grpc_are_forwarded_unchanged() {
    let directory = temp_dir();
    let directory = directory.path();
    std::fs::write(directory.join("big"), vec![7; BIG]).expect("a file");
    let (web, grpc) = (Script::start("http_server.py"), Script::start("grpc_server.py"));
    let envoy = envoy(directory, web.address, grpc.address);
    // Compare all labels, because there are two destinations.
    let diff = CounterDiff::with_labels(&envoy, &[("destination", MYSQL)]);
    let mut comparison = Comparison { envoy: &envoy, diff };

    let streams = format!("/bytes/[1-{STREAMS}]");
    let in_turn = ["/bytes/0", "/bytes/1", "/bytes/100000", &format!("/bytes/{BIG}")];
    let cases = [
        ("http", "http", "--http1.1"),
        ("http", "http", "--http2-prior-knowledge"),
        ("https", "http", "--http1.1"),
        ("https", "http", "--http2"),
        ("passthrough", "tls", "--http1.1"),
        ("passthrough", "tls", "--http2"),
    ];
    for (listener, seen, version) in cases {
        let scheme = if listener == "http" { "http" } else { "https" };
        let mut get = |options: &str, paths: &[&str]| {
            println!("{listener} {version} {options}");
            let options = format!("{version} {options}");
            let files = comparison.compare(listener, seen, |address| {
                curl(directory, &format!("{scheme}://{address}"), &options, paths)
            });
            // The last file has the headers.
            files[..files.len() - 1].iter().map(Vec::len).sum::<usize>()
        };
        assert_eq!(get("", &["/bytes/0"]), 0);
        assert_eq!(get("--data-binary @BIG", &["/echo"]), BIG);
        // curl 7.88 cannot reuse a connection with HTTP/2 in the clear. The gRPC client below can.
        if version != "--http2-prior-knowledge" {
            assert_eq!(get("", &in_turn), 1 + 100_000 + BIG);
            assert_eq!(get("--parallel --parallel-max 100", &[&streams]), STREAMS * (STREAMS + 1) / 2);
        }
    }

    let output = comparison.compare("http", "http", |address| {
        run(&python(), &[script("grpc_client.py").into(), address.to_string().into()])
    });
    assert_eq!(
        String::from_utf8_lossy(&output),
        "StatusCode.FAILED_PRECONDITION as asked for [('cause', 'asked-for')]\n\
         4 messages, 1000 calls at once, 200 in a stream\n"
            .replace("[('cause', 'asked-for')]", "[_Metadatum(key='cause', value='asked-for')]")
    );
    comparison.diff.finish();
}
