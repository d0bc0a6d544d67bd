"use strict";
// Tables are embedded as compressed CSV. Browsers that can decompress them save plain CSV.
document.addEventListener("click", async (event) => {
  const link = event.target.closest("a[download]");
  if (!link || !link.href.startsWith("data:application/gzip") || !window.DecompressionStream) return;
  event.preventDefault();
  const packed = Uint8Array.from(atob(link.href.slice(link.href.indexOf(",") + 1)), (character) => character.charCodeAt(0));
  const plain = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const saved = document.createElement("a");
  saved.href = URL.createObjectURL(new Blob([await new Response(plain).arrayBuffer()], { type: "text/csv" }));
  saved.download = link.download.replace(/\.gz$/, "");
  saved.click();
  setTimeout(() => URL.revokeObjectURL(saved.href), 60000);
});
