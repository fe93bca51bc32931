// A style sheet that a script imports is built with it; the server links it (manifest.json).
declare module "*.css";
