struct CoherentPlace {}
