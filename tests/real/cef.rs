//! Two parsers of CEF that others wrote, neither of which knows the other: cefp (PyPI), which goes character by
//! character and undoes the escaping, and ParCEFone (Maven Central), which Apache NiFi uses: it cuts by regular
//! expressions and knows the keys of CEF and their types. Fetched once.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::{install, installer};

/// Reads the messages of stdin, one a line, and writes what cefp makes of each as JSON.
const CEFP: &str = r#"
import cefp, json, sys
for message in sys.stdin.buffer.read().decode("utf-8").split("\n")[:-1]:
    try:
        said = cefp.parse(message)
    except Exception as error:
        said = {"error": repr(error)}
    print(json.dumps(said))
"#;

/// What cefp makes of each message: `device`, `name`, `severity`, and `extension`, unescaped.
pub fn cefp(messages: &[u8]) -> Vec<Value> {
    let library = install("cefp-0.0.2", |dir| {
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "-q", "--no-deps", "--target"]).arg(dir).arg("cefp==0.0.2");
        installer(&mut pip);
    });
    let mut command = Command::new("python3");
    command.env("PYTHONPATH", library).args(["-c", CEFP]);
    answers(command, messages)
}

/// What ParCEFone makes of each message: names of the header and keys of the extension that it knows → text,
/// still escaped.
pub fn parcefone(messages: &[u8]) -> Vec<Value> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real/cef");
    let jars: PathBuf = install("parcefone-2.1.0", |dir| {
        let mut maven = Command::new("mvn");
        maven.args(["-B", "-q", "-f"]).arg(here.join("pom.xml"));
        maven.arg("org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies");
        maven.arg("-DincludeScope=runtime").arg(format!("-DoutputDirectory={}", dir.display()));
        installer(&mut maven);
    });
    let mut command = Command::new("java");
    command.args(["-Xshare:auto", "-cp"]).arg(jars.join("*")).arg(here.join("ReadCef.java"));
    answers(command, messages)
}

/// One JSON object a message.
fn answers(mut command: Command, messages: &[u8]) -> Vec<Value> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || input.write_all(messages).unwrap());
        child.wait_with_output().unwrap()
    });
    assert!(output.status.success(), "{command:?} ended with {}", output.status);
    let said = String::from_utf8(output.stdout).unwrap();
    said.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
