// placeholder, replaced by the Link machine
