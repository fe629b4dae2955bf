#!/usr/bin/env bash
# Versions: idiomorph 0.8.0 (npm), in jsdom 26.1.0.
# What one would guess: with `ignoreActiveValue: true`, Idiomorph keeps what a person has typed into
# the focused field; the README says that it "will not update the active element's value".
# What happens: it keeps all children of any focused element, but still updates its attributes. A
# button with the focus gets its new class, name and value, and keeps its old words.
# So on a page that is refreshed by morphing, a button that a person has just clicked goes on to say
# what it did before ("Pause"), while it already sends the opposite ("resume").
#
# Seen on 2026-11-30, for a button "Pause" whose new form is class="new" and "Resume":
#   ignoreActiveValue=true  focused=true   class=new text=Pause
#   ignoreActiveValue=true  focused=false  class=new text=Resume
#   ignoreActiveValue=false focused=true   class=new text=Resume
# Exit code 1 if it behaves otherwise. Needs npm and Node.js 18 or newer; talks to npm only.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
npm install --silent --no-audit --no-fund --prefix "$folder" idiomorph@0.8.0 jsdom@26.1.0
cat > "$folder/look.cjs" <<'NODE'
const { readFileSync } = require("node:fs");
const { JSDOM } = require("jsdom");

const { window } = new JSDOM("<div id=place></div>", { runScripts: "outside-only" });
const library = readFileSync(require.resolve("idiomorph/dist/idiomorph.js"), "utf8");
window.eval(`${library}; window.Idiomorph = Idiomorph`);
const place = window.document.getElementById("place");
for (const [ignoreActiveValue, focused] of [[true, true], [true, false], [false, true]]) {
  place.innerHTML = "<button id=b type=button>Pause</button>";
  if (focused) window.document.getElementById("b").focus();
  const now = "<button id=b type=button class=new>Resume</button>";
  window.Idiomorph.morph(place, now, { morphStyle: "innerHTML", ignoreActiveValue });
  const button = window.document.getElementById("b");
  const given = `ignoreActiveValue=${ignoreActiveValue}`.padEnd(23);
  console.log(`${given} focused=${focused}`.padEnd(38), `class=${button.className} text=${button.textContent}`);
}
NODE
seen=$(node "$folder/look.cjs")
echo "$seen"
expected="ignoreActiveValue=true  focused=true   class=new text=Pause
ignoreActiveValue=true  focused=false  class=new text=Resume
ignoreActiveValue=false focused=true   class=new text=Resume"
[ "$seen" = "$expected" ]
