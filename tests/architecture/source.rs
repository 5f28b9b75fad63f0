//! The repository's files, and Rust sources as words.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All files with that ending, as paths from the root; hidden directories are not looked into.
pub(crate) fn files_below(folder: &str, ending: &str) -> Vec<String> {
    let mut files = Vec::new();
    for entry in fs::read_dir(root().join(folder)).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{folder}/{}", entry.file_name().to_str().unwrap());
        if entry.file_name().to_str().unwrap().starts_with('.') {
            continue;
        }
        if entry.file_type().unwrap().is_dir() {
            files.extend(files_below(&path, ending));
        } else if path.ends_with(&format!(".{ending}")) {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// Every file of `src/` that is not a test.
pub(crate) static SOURCES: LazyLock<Vec<Source>> = LazyLock::new(|| {
    let texts: BTreeMap<String, String> =
        files_below("src", "rs").into_iter().map(|path| (path.clone(), read(&path))).collect();
    let tests: Vec<String> = texts.iter().flat_map(|(path, text)| test_files(path, text)).collect();
    let is_test = |path: &str| {
        tests.iter().any(|test| path == format!("{test}.rs") || path.starts_with(&format!("{test}/")))
    };
    texts.iter().filter(|(path, _)| !is_test(path)).map(|(path, text)| Source::new(path, text)).collect()
});

/// The files that `#[cfg(test)] mod name;` names, without their ending.
fn test_files(path: &str, text: &str) -> Vec<String> {
    let folder = ["/mod.rs", "/lib.rs", ".rs"].iter().find_map(|ending| path.strip_suffix(ending)).unwrap();
    let words = words(&without(text, What::CommentsAndLiterals));
    let declared = test_items(&words).into_iter().filter(|(_, end)| words[end - 2].text == "mod");
    declared.map(|(_, end)| format!("{folder}/{}", words[end - 1].text)).collect()
}

/// A file of `src/`, its tests left out.
pub(crate) struct Source {
    path: String,
    pub(crate) words: Vec<Word>,
    pub(crate) lines: usize,
    pub(crate) text_without_literals: String,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Word {
    pub(crate) text: String,
    pub(crate) line: usize,
}

/// A path such as `crate::http::Version`, written out or as a branch of a `use`.
#[derive(Debug)]
pub(crate) struct Name {
    pub(crate) segments: Vec<String>,
    pub(crate) line: usize,
    /// Modules between the crate's root and the place where it stands.
    depth: usize,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let words = words(&without(text, What::CommentsAndLiterals));
        let tests = test_items(&words);
        let test_lines: usize =
            tests.iter().map(|(start, end)| words[*end].line - words[*start].line + 1).sum();
        let is_test = |index: usize| tests.iter().any(|(start, end)| (*start..=*end).contains(&index));
        let kept = words.iter().enumerate().filter(|(index, _)| !is_test(*index));
        Self {
            path: path.to_owned(),
            words: kept.map(|(_, word)| word.clone()).collect(),
            lines: text.lines().count() - test_lines,
            text_without_literals: without(text, What::Literals),
        }
    }

    pub(crate) fn room(&self) -> String {
        self.path.trim_start_matches("src/").split(['/', '.']).next().unwrap().to_owned()
    }

    pub(crate) fn is_in(&self, places: &[&str]) -> bool {
        places.iter().any(|place| self.path.starts_with(place))
    }

    pub(crate) fn complain(&self, line: usize, message: &str) -> String {
        format!("{}:{line}: {message}", self.path)
    }

    /// Modules between the crate's root and this file.
    fn depth(&self) -> usize {
        let steps = self.path.split('/').count() - 1;
        steps - usize::from(self.path.ends_with("/mod.rs") || self.path.ends_with("/lib.rs"))
    }

    pub(crate) fn names(&self) -> Vec<Name> {
        let mut reader =
            Reader { words: &self.words, at: 0, names: Vec::new(), braces: Vec::new(), depth: self.depth() };
        while reader.at < self.words.len() {
            reader.step();
        }
        reader.names
    }
}

impl Name {
    /// The room of this crate that it leads to, if any.
    pub(crate) fn room(&self) -> Option<String> {
        let segments: Vec<&str> =
            self.segments.iter().map(String::as_str).skip_while(|word| *word == "self").collect();
        let ups = segments.iter().take_while(|word| **word == "super").count();
        let leads_to_root = segments.first() == Some(&"crate") || (ups > 0 && ups == self.depth);
        leads_to_root.then(|| segments.get(ups.max(1)).map_or_else(String::new, |room| (*room).to_owned()))
    }
}

/// Finds the names in a row of words.
struct Reader<'a> {
    words: &'a [Word],
    at: usize,
    names: Vec<Name>,
    /// For each brace that is open, whether a module opened it.
    braces: Vec<bool>,
    depth: usize,
}

impl Reader<'_> {
    fn text(&self, index: usize) -> &str {
        self.words.get(index).map_or("", |word| &word.text)
    }

    fn step(&mut self) {
        match self.text(self.at) {
            "use" if self.text(self.at + 1) != "<" => {
                self.at += 1;
                self.use_tree(&[]);
            }
            "{" => self.braces.push(self.at >= 2 && self.text(self.at - 2) == "mod"),
            "}" => drop(self.braces.pop()),
            word if is_name(word) => return self.written_out(),
            _ => {}
        }
        self.at += 1;
    }

    /// A path outside of `use`; a single word counts only where an attribute begins with it.
    fn written_out(&mut self) {
        let before = self.at.checked_sub(1).map_or("", |index| self.text(index)).to_owned();
        let is_continued =
            before == "." || (before == "::" && self.at >= 2 && matches!(self.text(self.at - 2), ">" | ")"));
        let (segments, line) = (self.segments(), self.words[self.at - 1].line);
        if !is_continued && (segments.len() > 1 || before == "[") {
            self.note(segments, line);
        }
    }

    /// The words of a path from here on; leaves `at` behind it.
    fn segments(&mut self) -> Vec<String> {
        let mut segments = Vec::new();
        while is_name(self.text(self.at)) || self.text(self.at) == "*" {
            segments.push(self.text(self.at).to_owned());
            self.at += 1;
            if self.text(self.at) != "::"
                || !(is_name(self.text(self.at + 1)) || matches!(self.text(self.at + 1), "*" | "{"))
            {
                break;
            }
            self.at += 1;
        }
        segments
    }

    /// A branch of a `use` and its own branches; leaves `at` behind it.
    fn use_tree(&mut self, stem: &[String]) {
        if self.text(self.at) == "::" {
            self.at += 1;
        }
        let line = self.words.get(self.at).map_or(0, |word| word.line);
        let path = [stem, &self.segments()].concat();
        if self.text(self.at) == "{" {
            while !matches!(self.text(self.at), "}" | "") {
                self.at += 1;
                if self.text(self.at) != "}" {
                    self.use_tree(&path);
                }
            }
            self.at += 1;
        } else {
            self.note(path, line);
        }
        while !matches!(self.text(self.at), "," | "}" | ";" | "") {
            self.at += 1;
        }
    }

    fn note(&mut self, segments: Vec<String>, line: usize) {
        if segments.is_empty() {
            return;
        }
        let depth = self.depth + self.braces.iter().filter(|is_module| **is_module).count();
        self.names.push(Name { segments, line, depth });
    }
}

fn is_word_part(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn is_name(word: &str) -> bool {
    word.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

/// First and last word of every item under `#[cfg(test)]`.
fn test_items(words: &[Word]) -> Vec<(usize, usize)> {
    let attribute = ["#", "[", "cfg", "(", "test", ")", "]"];
    let starts = words
        .windows(attribute.len())
        .enumerate()
        .filter(|(_, window)| window.iter().zip(attribute).all(|(word, expected)| word.text == expected));
    starts.map(|(start, _)| (start, item_end(words, start + attribute.len()))).collect()
}

fn item_end(words: &[Word], start: usize) -> usize {
    let mut open = 0;
    for (index, word) in words.iter().enumerate().skip(start) {
        match word.text.as_str() {
            "{" => open += 1,
            "}" if open == 1 => return index,
            "}" => open -= 1,
            ";" if open == 0 => return index,
            _ => {}
        }
    }
    words.len() - 1
}

fn words(text: &str) -> Vec<Word> {
    let mut words = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next() {
            let length = match first {
                ':' if rest.starts_with("::") => 2,
                _ if is_word_part(first) => rest.find(|c| !is_word_part(c)).unwrap_or(rest.len()),
                _ => first.len_utf8(),
            };
            let (word, after) = rest.split_at(length);
            words.push(Word { text: word.to_owned(), line: index + 1 });
            rest = after.trim_start();
        }
    }
    words
}

#[derive(Clone, Copy, PartialEq)]
enum What {
    Literals,
    CommentsAndLiterals,
}

/// The text without the insides of string and character literals, and without comments if so wanted. Lines stay lines.
fn without(text: &str, what: What) -> String {
    let (mut kept, mut rest) = (String::new(), text);
    while let Some(next) = rest.chars().next() {
        let comment = comment_length(rest);
        let literal = literal_length(&kept, rest);
        if comment == 0 && literal == 0 {
            kept.push(next);
            rest = &rest[next.len_utf8()..];
            continue;
        }
        let (taken, after) = rest.split_at(comment.max(literal));
        if comment > 0 && what == What::Literals {
            kept.push_str(taken);
        } else {
            kept.push_str(if comment > 0 { " " } else { "\"\"" });
            kept.extend(taken.chars().filter(|c| *c == '\n'));
        }
        rest = after;
    }
    kept
}

/// The length of the comment that begins here; 0 when none does.
fn comment_length(text: &str) -> usize {
    match text.get(..2) {
        Some("//") => text.find('\n').unwrap_or(text.len()),
        Some("/*") => text.find("*/").map_or(text.len(), |end| end + 2),
        _ => 0,
    }
}

/// The length of the literal that begins here; 0 when none does.
fn literal_length(before: &str, text: &str) -> usize {
    let hashes = text.len() - text.trim_start_matches('#').len();
    let prefix = before.rsplit(|c: char| !is_word_part(c)).next().unwrap_or_default();
    if matches!(prefix, "r" | "br" | "cr") && text[hashes..].starts_with('"') {
        let close = format!("\"{}", "#".repeat(hashes));
        return text[hashes + 1..].find(&close).map_or(text.len(), |end| hashes + 1 + end + close.len());
    }
    match text.chars().next() {
        Some('"') => quoted_length(text, '"'),
        // Not a lifetime: `'a'` and `'\n'`, unlike `'a`, end soon.
        Some('\'') if text.starts_with("'\\") || text.chars().nth(2) == Some('\'') => {
            quoted_length(text, '\'')
        }
        _ => 0,
    }
}

fn quoted_length(text: &str, quote: char) -> usize {
    let mut is_escaped = false;
    for (index, c) in text.char_indices().skip(1) {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            c if c == quote => return index + c.len_utf8(),
            _ => {}
        }
    }
    text.len()
}
