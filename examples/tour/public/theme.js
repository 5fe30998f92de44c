// Loaded before the page is painted, so that a chosen theme does not flash up as the other one.
const chosen = localStorage.getItem("theme");
if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
