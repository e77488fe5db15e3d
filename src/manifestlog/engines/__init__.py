"""The engines that keep a manifest; siblings never import each other."""
