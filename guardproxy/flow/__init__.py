"""The story of a call: read, routed, admitted, asked, judged, settled; told without doing any of it."""
