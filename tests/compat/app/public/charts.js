export function draw(...points) {
  document.getElementById("chart").textContent = points.join(" ");
}
