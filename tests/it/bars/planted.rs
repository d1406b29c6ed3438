//! Planted bugs: each patch in `tests/planted` breaks one promise, and the test that it names must
//! turn red. A promise whose breaking turns nothing red is not held by anything.
//!
//! A patch begins with `Bug:` (what is broken), `Red:` (the test that must see it: a cargo target, its
//! full name) and then the difference to `src/`. Small: all patches apply and name tests that exist.
//! Full: the tree is copied, the named tests are green there, and each patch turns its test red.

use std::collections::HashSet;
use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{figure, is_full};

/// For one build; the first one may have to build all dependencies.
const BUILD_LIMIT: Duration = Duration::from_secs(600);
/// For the tests that are to be green, all of one target together, and for one that is to be red.
const TEST_LIMIT: Duration = Duration::from_secs(180);

/// One planted bug.
struct Planted {
    name: String,
    patch: PathBuf,
    bug: String,
    /// `lib` or `it`.
    target: String,
    test: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn planted() -> Vec<Planted> {
    let entries = std::fs::read_dir(root().join("tests/planted")).unwrap();
    let mut patches: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    patches.retain(|path| path.extension().is_some_and(|extension| extension == "patch"));
    patches.sort();
    patches.into_iter().map(read).collect()
}

fn read(patch: PathBuf) -> Planted {
    let text = std::fs::read_to_string(&patch).unwrap();
    let line = |head: &str| {
        let line = text.lines().take_while(|line| !line.starts_with("--- ")).find_map(|line| line.strip_prefix(head));
        line.unwrap_or_else(|| panic!("{patch:?} has no line `{head}`")).trim().to_owned()
    };
    let (bug, red) = (line("Bug:"), line("Red:"));
    let (target, test) = red.split_once(' ').unwrap_or_else(|| panic!("{patch:?}: `Red: lib|it <test>`"));
    let name = patch.file_stem().unwrap().to_string_lossy().into_owned();
    Planted { name, bug, target: target.into(), test: test.trim().into(), patch }
}

/// `git apply` in `tree`, which need not be a repository, and if it lies in one is none of its files.
fn apply(tree: &Path, patch: &Path, options: &[&str]) {
    let mut git = Command::new("git");
    git.current_dir(tree).env("GIT_CEILING_DIRECTORIES", tree.parent().unwrap());
    git.arg("apply").args(options).arg(patch);
    let output = git.output().expect("git is there");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{patch:?} no longer applies, mend it:\n{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn planted_bugs_turn_their_tests_red() {
    let planted = planted();
    assert!(planted.len() >= 10, "{} patches", planted.len());
    for bug in &planted {
        apply(root(), &bug.patch, &["--check"]);
        assert_exists(bug);
    }
    figure("planted", format_args!("{} patches apply, and the tests that they name exist", planted.len()));
    if !is_full() {
        return;
    }
    tokio::task::spawn_blocking(move || turn_red(&planted)).await.unwrap();
}

/// The named function is in the source: renamed, it would only be missed in the full run.
fn assert_exists(bug: &Planted) {
    let top = match bug.target.as_str() {
        "lib" => "src",
        "it" => "tests/it",
        other => panic!("{}: `{other}` is neither `lib` nor `it`", bug.name),
    };
    let name = bug.test.rsplit("::").next().unwrap();
    // One of the contract's cases is made for each sink from a generic function.
    let functions = [format!("fn {name}("), format!("fn {name}<")];
    let mut texts = Vec::new();
    sources(&root().join(top), &mut texts);
    assert!(
        texts.iter().any(|text| functions.iter().any(|function| text.contains(function))),
        "{}: there is no test `{}`",
        bug.name,
        bug.test
    );
}

fn sources(dir: &Path, texts: &mut Vec<String>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, texts);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            texts.push(std::fs::read_to_string(&path).unwrap());
        }
    }
}

fn turn_red(planted: &[Planted]) {
    let began = Instant::now();
    let scratch = Scratch::new();
    for target in ["lib", "it"] {
        let tests: Vec<&str> = planted.iter().filter(|bug| bug.target == target).map(|b| b.test.as_str()).collect();
        scratch.build(target).unwrap_or_else(|said| panic!("the tree does not build:\n{said}"));
        let said = scratch.run(target, &tests);
        for test in tests {
            assert!(said.contains(&format!("test {test} ... ok")), "`{test}` is not green to begin with:\n{said}");
        }
    }
    figure("planted", format_args!("the named tests are green without a bug, {:?}", began.elapsed()));
    let mut unseen = Vec::new();
    for bug in planted {
        let began = Instant::now();
        apply(&scratch.tree, &bug.patch, &[]);
        let outcome = match scratch.build(&bug.target) {
            Ok(()) => verdict(&scratch.run(&bug.target, &[&bug.test]), &bug.test),
            Err(said) => format!("DOES NOT BUILD:\n{said}"),
        };
        apply(&scratch.tree, &bug.patch, &["--reverse"]);
        let seconds = began.elapsed().as_secs();
        figure("planted", format_args!("{}: {} -> {} {outcome} ({seconds} s)", bug.name, bug.bug, bug.test));
        if !outcome.starts_with("red") {
            unseen.push(bug.name.as_str());
        }
    }
    figure("planted", format_args!("{} of {} seen", planted.len() - unseen.len(), planted.len()));
    assert!(unseen.is_empty(), "nothing saw {unseen:?}");
}

/// Red only if the test itself said so: a test that was not found or never ended says nothing.
fn verdict(said: &str, test: &str) -> String {
    if said.contains(&format!("test {test} ... FAILED")) {
        // What it said, so that a reader sees that it is red for the reason that is meant.
        let mut lines = said.lines().skip_while(|line| !line.contains("panicked at")).skip(1);
        let why: Vec<&str> = lines.by_ref().take(3).map(str::trim).collect();
        format!("red, `{}`", why.join(" ").chars().take(160).collect::<String>())
    } else if said.contains(&format!("test {test} ... ok")) {
        "GREEN".into()
    } else {
        format!("NO VERDICT:\n{said}")
    }
}

/// A copy of the tree and a place to build it, kept from run to run so that only the crate is built.
struct Scratch {
    tree: PathBuf,
    target: PathBuf,
}

impl Scratch {
    fn new() -> Scratch {
        // target/<profile>/auditferry
        let built = Path::new(env!("CARGO_BIN_EXE_auditferry")).ancestors().nth(2).unwrap();
        let scratch = Scratch { tree: built.join("planted/tree"), target: built.join("planted/target") };
        if !scratch.target.exists() {
            lend_dependencies(&built.join("debug"), &scratch.target.join("debug"));
        }
        scratch.copy_tree();
        scratch
    }

    /// Brings the copy up to what would be committed now. Files that are the same stay as they are, with
    /// their times, so that cargo builds what changed.
    fn copy_tree(&self) {
        let mut git = Command::new("git");
        git.current_dir(root()).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
        let output = git.output().expect("git is there");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let listed = String::from_utf8(output.stdout).unwrap();
        let names: HashSet<&Path> = listed.split('\0').filter(|name| !name.is_empty()).map(Path::new).collect();
        std::fs::create_dir_all(&self.tree).unwrap();
        self.remove_all_but(&names, &self.tree);
        for name in names {
            let Ok(bytes) = std::fs::read(root().join(name)) else { continue };
            let copy = self.tree.join(name);
            if std::fs::read(&copy).is_ok_and(|there| there == bytes) {
                continue;
            }
            std::fs::create_dir_all(copy.parent().unwrap()).unwrap();
            std::fs::write(copy, bytes).unwrap();
        }
    }

    /// A file that was moved must not be there twice.
    fn remove_all_but(&self, names: &HashSet<&Path>, dir: &Path) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                self.remove_all_but(names, &path);
            } else if !names.contains(path.strip_prefix(&self.tree).unwrap()) {
                std::fs::remove_file(&path).unwrap();
            }
        }
    }

    fn cargo(&self, target: &str) -> Command {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(&self.tree).args(["test", "--locked", "--features", "failpoints"]);
        match target {
            "lib" => cargo.arg("--lib"),
            name => cargo.args(["--test", name]),
        };
        cargo.env("CARGO_TARGET_DIR", &self.target).env("RUST_BACKTRACE", "0").env_remove("AUDITFERRY_BARS");
        // The crate is built once a bug: quickly built is better than quick. Dependencies stay as they are.
        cargo.env("CARGO_PROFILE_DEV_OPT_LEVEL", "0").env("CARGO_PROFILE_DEV_DEBUG", "0");
        cargo
    }

    /// Builds what the target's tests need; what was said if it cannot be built.
    fn build(&self, target: &str) -> Result<(), String> {
        let mut cargo = self.cargo(target);
        cargo.arg("--no-run");
        let (ended_well, said) = self.ended(cargo, BUILD_LIMIT);
        if ended_well { Ok(()) } else { Err(said) }
    }

    /// What the tests said.
    fn run(&self, target: &str, tests: &[&str]) -> String {
        let mut cargo = self.cargo(target);
        cargo.args(["--", "--test-threads=2", "--exact"]).args(tests);
        self.ended(cargo, TEST_LIMIT).1
    }

    /// Runs it to its end or to the limit; whether it ended well, and the end of what it said.
    fn ended(&self, mut command: Command, limit: Duration) -> (bool, String) {
        let path = self.target.with_file_name("said");
        let said = std::fs::File::create(&path).unwrap();
        // A group of its own, so that tests are not left behind.
        command.process_group(0).stdin(Stdio::null()).stdout(said.try_clone().unwrap()).stderr(said);
        let mut child = command.spawn().expect("cargo is there");
        let deadline = Instant::now() + limit;
        let ended = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break Some(status);
            }
            if Instant::now() > deadline {
                let group = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
                let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
                let _ = child.wait();
                break None;
            }
            // On a thread for blocking work.
            std::thread::park_timeout(Duration::from_millis(50));
        };
        let mut said = String::new();
        let _ = std::fs::File::open(&path).unwrap().read_to_string(&mut said);
        if ended.is_none() {
            said.push_str("\nnot ended in time");
        }
        (ended.is_some_and(|status| status.success()), said)
    }
}

/// Links what was built of the dependencies, so that they are not built again: only the crate differs.
/// What cannot be linked is built.
fn lend_dependencies(built: &Path, to: &Path) {
    for part in ["deps", "build", ".fingerprint"] {
        let _ = link(&built.join(part), &to.join(part));
    }
}

fn link(from: &Path, to: &Path) -> std::io::Result<()> {
    if from.file_name().is_some_and(|name| name.to_string_lossy().contains("auditferry")) {
        return Ok(());
    }
    if !from.is_dir() {
        // Cargo writes into fingerprints in place, so those must be copies.
        let is_fingerprint = from.ancestors().any(|parent| parent.ends_with(".fingerprint"));
        return if is_fingerprint { std::fs::copy(from, to).map(|_| ()) } else { std::fs::hard_link(from, to) };
    }
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        link(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}
