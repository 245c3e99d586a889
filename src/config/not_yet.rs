//! The settings this version does not act on. They are checked like all others, and then refused.

use super::error::Problems;
use super::node::Node;

/// Each such setting, and the one value of it that this version does act on; `None` if there is none.
/// A line goes when its setting comes.
const NOT_YET: [(&str, Option<&str>); 2] =
    [("rules[].mysql.clear_capabilities", Some("[]")), ("rules[].mysql.block_local_infile", Some("false"))];

/// Reports each setting of the table that is there with another value, unless its value is wrong anyhow.
pub(super) fn refuse(root: &Node, problems: &mut Problems) {
    for (setting, possible) in NOT_YET {
        visit(root, "$", setting, &mut |at, node| {
            let found = node.to_string();
            if problems.concern(at) || Some(found.as_str()) == possible {
                return;
            }
            let instead = match possible {
                Some(possible) => format!("only {possible} is"),
                None => "leave it out".to_owned(),
            };
            problems.add(at, format!("{found} is not in this version, {instead}"));
        });
    }
}

/// Calls back for each value at a path like `rules[].mysql.observe`.
fn visit(node: &Node, at: &str, path: &str, found: &mut dyn FnMut(&str, &Node)) {
    let (step, rest) = path.split_once('.').unwrap_or((path, ""));
    let (key, each) = step.strip_suffix("[]").map_or((step, false), |key| (key, true));
    let Node::Object(entries) = node else { return };
    let Some((_, value)) = entries.iter().find(|entry| entry.0 == key) else { return };
    let at = format!("{at}.{key}");
    match value {
        Node::Array(items) if each => {
            for (index, item) in items.iter().enumerate() {
                visit(item, &format!("{at}[{index}]"), rest, found);
            }
        }
        _ if rest.is_empty() => found(&at, value),
        _ => visit(value, &at, rest, found),
    }
}
