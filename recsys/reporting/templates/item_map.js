const plot = document.getElementById("{plot_id}");
const box = document.createElement("input");
box.id = "search"; box.type = "search"; box.placeholder = "search titles";
box.style = "position:fixed;top:12px;left:12px;z-index:9;padding:6px;width:240px;font-size:15px";
const status = document.createElement("span");
status.id = "found";
status.style = "position:fixed;top:20px;left:280px;z-index:9;font-family:sans-serif";
document.body.append(box, status);
document.body.style.margin = "0";  // otherwise the page is taller than the window
function search() {
  const query = box.value.trim().toLowerCase();
  let count = 0;
  const selected = plot.data.map(trace => {
    const hits = trace.text.flatMap((title, i) => title.toLowerCase().includes(query) ? [i] : []);
    count += hits.length;
    return query ? hits : null;
  });
  status.textContent = query ? count + " found" : "";
  return Plotly.restyle(plot, {selectedpoints: selected});
}
box.addEventListener("input", search);
// A link may contain the query: map.html#toy%20story
box.value = decodeURIComponent(location.hash.slice(1));
search();
