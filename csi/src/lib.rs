//! CSI v1: the client, and the hostPath and NFS drivers. Nothing is here yet;
//! pods use hostPath, emptyDir and projected volumes without it.
