// Each cell of a table knows its heading, for style.css to show it where a row does not fit the screen.
for (const table of document.querySelectorAll("article table")) {
    const headings = [...table.querySelectorAll("thead th")].map((cell) => cell.textContent.trim());
    for (const row of table.querySelectorAll("tbody tr")) {
        [...row.cells].forEach((cell, at) => headings[at] && cell.setAttribute("data-heading", headings[at]));
    }
}
// Each drawing made of characters knows its width, for style.css to show all of it.
for (const drawing of document.querySelectorAll("article :is(.language-text, .language-console) pre")) {
    const columns = Math.max(...drawing.textContent.split("\n").map((line) => line.length));
    drawing.style.setProperty("--columns", columns);
}
