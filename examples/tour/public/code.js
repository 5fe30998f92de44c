// Light colouring of source code. Text goes in as text: nothing here makes markup out of it.

const PYTHON = new RegExp(
  [
    String.raw`(?<comment>#[^\n]*)`,
    String.raw`(?<string>[rbf]{0,2}(?:"""[\s\S]*?"""|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'))`,
    String.raw`(?<decorator>^[ \t]*@[\w.]+)`,
    String.raw`(?<=\b(?:def|class) )(?<name>\w+)`,
    String.raw`\b(?<keyword>and|as|async|await|class|def|else|for|from|global|if|import|in|is|not|or|pass|raise|return|while|with|None|True|False)\b`,
    String.raw`\b(?<number>\d[\d_.]*)\b`,
  ].join("|"),
  "gm",
);

const JAVASCRIPT = new RegExp(
  [
    String.raw`(?<comment>//[^\n]*)`,
    "(?<string>\"(?:\\\\.|[^\"\\\\\\n])*\"|'(?:\\\\.|[^'\\\\\\n])*'|`(?:\\\\.|[^`\\\\])*`)",
    String.raw`(?<=\bfunction )(?<name>\w+)`,
    String.raw`\b(?<keyword>async|await|const|else|export|for|function|if|let|new|of|return|null|true|false)\b`,
    String.raw`\b(?<number>\d[\d_.]*)\b`,
  ].join("|"),
  "gm",
);

/** Show `text` in `element`, each token that has a kind in a span of that class. */
export function showCode(element, text, language = "python") {
  const parts = [];
  let end = 0;
  for (const match of text.matchAll(language === "python" ? PYTHON : JAVASCRIPT)) {
    const [kind, token] = Object.entries(match.groups).find(([, value]) => value !== undefined);
    const span = document.createElement("span");
    span.className = kind;
    span.textContent = token;
    parts.push(text.slice(end, match.index), span);
    end = match.index + token.length;
  }
  element.replaceChildren(...parts, text.slice(end));
}
