//! The text format of a capture. Comment lines (`#`) name the server, the client, and how the capture was made. Then each chunk
//! has a line, in the order in which it passed: `C` or `S` for its sender, and the bytes in hexadecimal.

use std::fmt::Write as _;

use bytes::Bytes;
use firstword::event::Sender;

pub type Chunks = Vec<(Sender, Bytes)>;

pub fn parse(text: &str) -> Chunks {
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines.map(|line| chunk(line).unwrap_or_else(|| panic!("not a line of a capture: {line}"))).collect()
}

fn chunk(line: &str) -> Option<(Sender, Bytes)> {
    let (sender, hex) = line.split_once(' ')?;
    let sender = match sender {
        "C" => Sender::Client,
        "S" => Sender::Server,
        _ => return None,
    };
    let digits = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).ok());
    let bytes: Option<Vec<u8>> = digits.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect();
    Some((sender, bytes?.into()))
}

pub fn format(comments: &[String], chunks: &Chunks) -> String {
    let mut text: String = comments.iter().map(|comment| format!("# {comment}\n")).collect();
    for (sender, bytes) in chunks {
        text.push_str(if *sender == Sender::Client { "C " } else { "S " });
        for byte in bytes {
            write!(text, "{byte:02x}").expect("a String takes everything");
        }
        text.push('\n');
    }
    text
}
