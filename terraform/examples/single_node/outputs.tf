# SPDX-License-Identifier: GPL-3.0-or-later

output "role_vars" {
  description = "Variables of the Ansible role trailgate."
  value       = module.evidence.role_vars
}

output "lake_url" {
  description = "Where `trailgate audit rebuild-lake --to` writes."
  value       = module.evidence.lake_url
}

output "buckets" {
  description = "Names of the buckets: evidence, keys, lake."
  value       = module.evidence.buckets
}

output "instance_profile" {
  description = "The instance profile for the gateway's host on EC2."
  value       = module.evidence.instance_profile
}

output "role_arns" {
  description = "Roles that were made."
  value       = module.evidence.role_arns
}
