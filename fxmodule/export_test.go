package fxmodule

// ShowSettings shows the settings of a struct as Cache.String and Jobs.String do.
func ShowSettings(group any) string { return showSettings(group) }
